"""Rotary position embedding (Su et al., 2021), with the frequency scaling of Llama 3.1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Low frequencies are slowed by `factor`, high ones kept, those between blended."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def apply(self, frequencies: Tensor) -> Tensor:
        """Scaled inverse frequencies, in radians per position."""
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        blend = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = blend.clamp(0.0, 1.0)
        return blend * frequencies + (1 - blend) * frequencies / self.factor


def rotary_tables(
    *, head_dim: int, theta: float, positions: int, scaling: Llama3Scaling | None = None, linear_factor: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Tables (cos, sin), each [positions, 1, head_dim]; the first half of `sin` is negated, ready for `rotary`."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim) / linear_factor
    if scaling is not None:
        frequencies = scaling.apply(frequencies)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).float().unsqueeze(1), torch.cat((-sin, sin), -1).float().unsqueeze(1)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [rows, heads, head_dim] by the table rows cos, sin [rows, 1, head_dim] of each row's position.

    Coordinate i pairs with i + head_dim/2, as in Hugging Face checkpoints.
    """
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
