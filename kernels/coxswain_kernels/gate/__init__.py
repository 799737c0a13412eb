"""What can be proven of kernels without a GPU: that they compile, and what the compilers made of them."""
