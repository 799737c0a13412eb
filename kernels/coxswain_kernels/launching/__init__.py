"""What every operation is launched with: its `plans`, `checks` of tensors, `targets`, and constants by `tuning`."""
