"""What `benchmarks.kernels` measures, by whom, and how it says so."""
