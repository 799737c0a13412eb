"""How many engines of which kind: accelerator, role and tensor parallelism, for a histogram of request lengths."""
