"""Attention on a CPU, by plain torch, over a KV cache with a layout of its own.

`paged_attention` gives a token the same bits in every company; `span_attention` is faster where prefills are long.
"""
