"""What the native engine computes on, an operation a file: contract, reference in plain torch, kernel, launch plans.

Rooms, each knowing only those further down; `lint-imports` holds them to it:

- `gate`: compiles every plan for every target, says what must not be shipped, and writes docs/kernels.md;
- `attention`: over a paged KV cache, by kernels and, in `attention.cpu`, by torch;
- `moe`: mixtures of experts;
- `sampling`: tokens of logits;
- `cache`: the KV cache; writing to it, and copying blocks out of it and into it;
- `matrices`: linear layers, with quantised weights and with adapters too;
- `elementwise`: normalisation, activation, rotary embedding;
- `launching`: what all of them are launched with: plans, checks of tensors, targets, measured constants.
"""
