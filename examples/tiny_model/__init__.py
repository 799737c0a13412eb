"""A small Llama-architecture model, trained in minutes on Python's own standard library."""
