"""What stands in for container images: a registry of image references, and the programs it names.

A container has no image here: it runs on the machine's files. `registry` says which program that is.
"""
