"""The addresses behind Services."""
