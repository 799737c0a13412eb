"""Linear layer whose weight is stored input-major, which matrix libraries read fastest when rows are few."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, max_rows: int | None = None) -> Tensor:
    """`x @ weight + bias` for x [rows, in], weight [in, out], bias [out].

    A matrix library picks its kernel by the number of rows, and kernels differ in the order in which they add. Who
    needs a row's bits to be the same in every batch pads `x` to a row count known to be safe and passes the largest of
    those as `max_rows`: more rows are computed in slices of that many.
    """
    if max_rows is None or x.shape[0] <= max_rows:
        return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)
    out = x.new_empty(x.shape[0], weight.shape[1])
    for start in range(0, x.shape[0], max_rows):
        out[start : start + max_rows] = linear(x[start : start + max_rows], weight, bias)
    return out
