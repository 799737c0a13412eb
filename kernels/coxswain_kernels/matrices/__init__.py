"""Products with weights: dense, quantised, and of low rank beside others.

They share the tiles of `matmul`, and `grouping`, which sorts rows by the weight that each wants.
"""
