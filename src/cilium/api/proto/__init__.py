"""Hubble's wire contract: .proto files, and beside each the code that tools/generate_protos.sh makes of it."""
