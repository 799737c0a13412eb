"""Root-mean-square normalisation (Zhang and Sennrich, 2019)."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`x / sqrt(mean(x²) + eps) * weight` over the last dimension of x [..., n], weight [n].

    Row by row, so a row's bits do not depend on its neighbours. Statistics are taken in float32.
    """
    y = x.float()
    scale: Tensor = torch.linalg.vecdot(y, y).unsqueeze(-1).div_(x.shape[-1]).add_(eps).rsqrt_()
    return (y * scale).to(x.dtype) * weight
