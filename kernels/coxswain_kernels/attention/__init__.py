"""Causal attention over a paged KV cache.

Of one token of each sequence (`paged_decode`), of chunks (`paged_prefill`), and of one token of each where sequences
have a prefix in common (`shared_prefix`). The kernels walk a context by the same `tile`s.
"""
