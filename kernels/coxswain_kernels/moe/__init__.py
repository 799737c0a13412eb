"""Mixture of experts: the `routing` of tokens, and the `experts` that they are routed to."""
