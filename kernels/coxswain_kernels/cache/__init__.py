"""The paged KV cache: what it is (`kv_cache`, `quantisation`), and what moves keys and values to and from it."""
