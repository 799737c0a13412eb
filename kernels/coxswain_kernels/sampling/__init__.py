"""Choosing tokens, alike on every backend: arithmetic that decides is in integers (`fixed_point`)."""
