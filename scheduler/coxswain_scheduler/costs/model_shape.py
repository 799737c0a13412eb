"""Sizes of decoder-only transformers, and what follows from them: weights, KV bytes, arithmetic.

All sizes are from the models' public `config.json`. A mixture of experts is described by its routed and shared
experts; multi-head latent attention (DeepSeek) by the size of its latent, which is all that it caches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


class Matrix(NamedTuple):
    """A weight matrix of one GPU: `inputs` × `outputs`, in so many `layers`, perhaps one of several experts."""

    outputs: int
    inputs: int
    layers: int
    experts: int = 1
    active: int = 1
    """Experts that a token goes through."""

    def touched(self, tokens: float) -> float:
        """Experts that `tokens` tokens go through, routed evenly."""
        return self.experts * (1.0 - (1.0 - self.active / self.experts) ** tokens) if self.experts > 1 else 1.0

    @property
    def size(self) -> int:
        """Elements of all its layers and experts."""
        return self.outputs * self.inputs * self.layers * self.experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """One model."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    """Whether input embedding and output projection are one matrix."""
    experts: int = 0
    active_experts: int = 0
    shared_experts: int = 0
    expert_intermediate: int = 0
    dense_layers: int = 0
    """Of a mixture of experts: its first layers, which are dense."""
    kv_latent: int = 0
    """Elements cached per token and layer by latent attention; 0 for keys and values of `kv_heads`."""
    query_latent: int = 0
    weight_bytes: float = 2.0
    """Of one parameter in the layers; embeddings stay at two bytes."""
    kv_bytes: float = 2.0
    """Of one cached element."""

    def quantised(self, weight_bytes: float) -> ModelShape:
        """The same model with other weights."""
        return replace(self, weight_bytes=weight_bytes)

    @property
    def kv_bytes_per_token(self) -> float:
        """KV bytes of one token, all layers, all GPUs."""
        return self.layers * self.kv_bytes * (self.kv_latent or 2 * self.kv_heads * self.head_dim)

    def kv_bytes_per_gpu(self, tensor_parallel: int) -> float:
        """KV bytes of one token on one GPU: heads are shared out, but none is cut, and a latent is copied."""
        if self.kv_latent:
            return self.kv_bytes_per_token
        return self.kv_bytes_per_token / self.kv_heads * -(-self.kv_heads // tensor_parallel)

    @property
    def flops_per_pair(self) -> float:
        """FLOPs of one query with one key, all layers: for each head a product over the key and one over the value.

        Latent attention has keys that are half as long again, for their rotary part.
        """
        return (5.0 if self.kv_latent else 4.0) * self.layers * self.heads * self.head_dim

    @property
    def embedding_size(self) -> int:
        """Parameters of the output projection; as many again in the input embedding unless tied."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, norms left out."""
        return sum(matrix.size for matrix in self.matrices(1)) + self.embedding_size * (1 if self.tied else 2)

    @property
    def active_parameters(self) -> float:
        """Parameters that one token is multiplied with, in the layers."""
        return sum(matrix.size * matrix.active / matrix.experts for matrix in self.matrices(1))

    def bytes_per_gpu(self, tensor_parallel: int) -> float:
        """Bytes of weights on one GPU."""
        layers = sum(matrix.size for matrix in self.matrices(tensor_parallel)) * self.weight_bytes
        return layers + 2.0 * self.embedding_size * (1 if self.tied else 2) / tensor_parallel

    def matrices(self, tensor_parallel: int) -> list[Matrix]:
        """The layers' matrices on one of `tensor_parallel` GPUs, cut as Megatron does."""
        return [*self._attention(tensor_parallel), *self._feed_forward(tensor_parallel)]

    def _attention(self, parts: int) -> list[Matrix]:
        if self.kv_latent:
            return self._latent_attention(parts)
        heads = -(-self.heads // parts) + 2 * -(-self.kv_heads // parts)
        merge = Matrix(self.hidden, -(-self.heads // parts) * self.head_dim, self.layers)
        return [Matrix(heads * self.head_dim, self.hidden, self.layers), merge]

    def _latent_attention(self, parts: int) -> list[Matrix]:
        heads, rotary = -(-self.heads // parts), self.head_dim // 2
        latent = self.kv_latent - rotary
        return [
            Matrix(self.query_latent + self.kv_latent, self.hidden, self.layers),
            Matrix(heads * (self.head_dim + rotary), self.query_latent, self.layers),
            Matrix(heads * 2 * self.head_dim, latent, self.layers),
            Matrix(self.hidden, heads * self.head_dim, self.layers),
        ]

    def _feed_forward(self, parts: int) -> list[Matrix]:
        dense = self.dense_layers if self.experts else self.layers
        found = _gated(self.hidden, self.intermediate, parts, Matrix(0, 0, dense)) if dense else []
        if self.experts:
            routed = Matrix(0, 0, self.layers - dense, self.experts, self.active_experts)
            found += _gated(self.hidden, self.expert_intermediate, parts, routed)
        if self.shared_experts:
            shared = self.expert_intermediate * self.shared_experts
            found += _gated(self.hidden, shared, parts, Matrix(0, 0, self.layers - dense))
        return found


def _gated(hidden: int, intermediate: int, parts: int, like: Matrix) -> list[Matrix]:
    """A gated feed-forward block: gate and up in one matrix, then down."""
    width = -(-intermediate // parts)
    return [like._replace(outputs=2 * width, inputs=hidden), like._replace(outputs=hidden, inputs=width)]


_LLAMA_3_8B = ModelShape(
    name="llama-3-8b",
    layers=32,
    hidden=4096,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocabulary=128256,
)
_SHAPES = (
    ModelShape(
        name="llama-2-7b",
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=32,
        head_dim=128,
        intermediate=11008,
        vocabulary=32000,
    ),
    _LLAMA_3_8B,
    ModelShape(
        name="llama-3-70b",
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        head_dim=128,
        intermediate=28672,
        vocabulary=128256,
    ),
    ModelShape(
        name="qwen3-32b",
        layers=64,
        hidden=5120,
        heads=64,
        kv_heads=8,
        head_dim=128,
        intermediate=25600,
        vocabulary=151936,
    ),
    ModelShape(
        name="deepseek-r1",
        layers=61,
        hidden=7168,
        heads=128,
        kv_heads=128,
        head_dim=128,
        intermediate=18432,
        vocabulary=129280,
        experts=256,
        active_experts=8,
        shared_experts=1,
        expert_intermediate=2048,
        dense_layers=3,
        kv_latent=576,
        query_latent=1536,
        weight_bytes=1.0,
    ),
)
SHAPES = {shape.name: shape for shape in _SHAPES}
"""By name, in lower case. DeepSeek-V3 has the shape of R1."""
