"""The native engine's decode steps on a GPU, at the shape of an 8B Llama with random weights, beside vLLM's.

    python -m benchmarks.decode_steps [--batch N ...] [--context TOKENS] [--steps N] [--json OUT]

A step is what the engine does between two tokens, as the host sees it: laying the batch out, the model, and logits that
have arrived. vLLM, where it can be imported, decodes as many sequences of the same lengths with dummy weights; what it
takes for a token is the difference of a long answer and a short one. Prints a table, and files
`benchmarks/results/decode_steps.md` and `.json`. Without a GPU it says so and exits 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rows import hardware, write
from coxswain_kernels.elementwise.rotary import rotary_tables
from coxswain_scheduler.batching import Entry, TokenSequence
from coxswain_workers.engine.config import ModelConfig
from coxswain_workers.engine.model import Layer, Model, Projection
from coxswain_workers.engine.runner import Runner
from coxswain_workers.engine.triton_runner import TritonRunner

RESULTS = Path(__file__).with_name("results")
BLOCK = 16
LLAMA_8B = ModelConfig(
    architecture="LlamaForCausalLM",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
    rope_linear_factor=1.0,
    rope_llama3=None,
    tied=False,
    qkv_bias=False,
    output_bias=False,
    mlp_bias=False,
    head_norm=False,
    eos_ids=(),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One engine at one batch."""

    engine: str
    batch: int
    context: int
    step_ms: float
    tokens_per_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            "benchmarks.decode_steps: torch sees no GPU here, and there is nothing to measure without one",
            file=sys.stderr,
        )
        return 2
    rows = [*_ours(options), *_vllm(options)]
    console, table = Console(), Table("engine", "batch", "context", "step, ms", "tokens/s")
    for row in rows:
        table.add_row(row.engine, str(row.batch), str(row.context), f"{row.step_ms:.2f}", f"{row.tokens_per_s:,.0f}")
    console.print(table)
    found = {
        "device": torch.cuda.get_device_name(),
        "host": hardware(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    figures = {**found, "rows": [{name: getattr(row, name) for name in row.__slots__} for row in rows]}
    write(options.json or RESULTS / "decode_steps.json", json.dumps(figures, indent=1))
    write(RESULTS / "decode_steps.md", _page(rows, found))
    return 0


def random_model(config: ModelConfig, *, device: str, dtype: torch.dtype) -> Model:
    """A model of a shape. Its weights are small enough for nothing to overflow."""
    generator = torch.Generator(device).manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=device, dtype=dtype).normal_(std=0.02, generator=generator)

    def ones(size: int) -> torch.Tensor:
        return torch.ones(size, device=device, dtype=dtype)

    hidden, inner, queries = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
    cos, sin = rotary_tables(
        head_dim=config.head_dim, theta=config.rope_theta, positions=config.max_position_embeddings
    )
    layers = (
        Layer(
            attention_norm=ones(hidden),
            qkv=Projection(weight(hidden, queries + 2 * config.kv_heads * config.head_dim)),
            query_norm=None,
            key_norm=None,
            output=Projection(weight(queries, hidden)),
            mlp_norm=ones(hidden),
            gate_up=Projection(weight(hidden, 2 * inner)),
            down=Projection(weight(inner, hidden)),
        )
        for _ in range(config.layers)
    )
    return Model(
        config=config,
        embedding=weight(config.vocab_size, hidden),
        layers=tuple(layers),
        norm=ones(hidden),
        head=Projection(weight(hidden, config.vocab_size)),
        cos=cos.to(device, dtype),
        sin=sin.to(device, dtype),
    )


def decoding(batch: int, context: int) -> list[Entry[TokenSequence]]:
    """A batch that decodes: each sequence has `context` tokens, and blocks of its own from block 0 on."""
    entries = []
    for number in range(batch):
        sequence = TokenSequence(str(number), prompt=range(context), block_size=BLOCK)
        count = sequence.blocks_for(context)
        sequence.blocks = list(range(number * count, (number + 1) * count))
        entries.append(Entry(sequence, context - 1, 1, samples=True))
    return entries


def step_seconds(runner: Runner, entries: Sequence[Entry[TokenSequence]], *, steps: int) -> float:
    """Median of `steps` steps, after three that are not counted."""
    taken = []
    for _ in range(3 + steps):
        began = time.perf_counter()
        runner.run(entries)[:, :1].cpu()  # which waits for the device
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[3:])


def _ours(options: argparse.Namespace) -> Iterator[Row]:
    model = random_model(LLAMA_8B, device="cuda", dtype=torch.bfloat16)
    blocks = max(options.batch) * -(-options.context // BLOCK)
    for invariant in (False, True):
        runner = TritonRunner(model, num_blocks=blocks, block_size=BLOCK, invariant=invariant)
        name = f"coxswain, {'exact' if invariant else 'fast'}"
        for batch in track(options.batch, name):
            seconds = step_seconds(runner, decoding(batch, options.context), steps=options.steps)
            yield Row(name, batch, options.context, seconds * 1e3, batch / seconds)
        del runner
        torch.cuda.empty_cache()


def _vllm(options: argparse.Namespace) -> Iterator[Row]:
    if importlib.util.find_spec("vllm") is None:
        print("vLLM is not installed here: its rows are missing", file=sys.stderr)
        return
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found,unused-ignore]

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(_as_json(LLAMA_8B)))
        engine = LLM(model=folder, load_format="dummy", skip_tokenizer_init=True, max_model_len=8192)

        def seconds(batch: int, tokens: int) -> float:
            prompts = [{"prompt_token_ids": list(range(number, number + options.context))} for number in range(batch)]
            sampling = SamplingParams(max_tokens=tokens, ignore_eos=True, detokenize=False)
            began = time.perf_counter()
            engine.generate(prompts, sampling, use_tqdm=False)
            return time.perf_counter() - began

        for batch in track(options.batch, "vLLM"):
            seconds(batch, 2)
            step = _difference(seconds, batch, options.steps)
            yield Row("vLLM", batch, options.context, step * 1e3, batch / step)


def _difference(seconds: Callable[[int, int], float], batch: int, steps: int) -> float:
    return (seconds(batch, steps + 1) - seconds(batch, 1)) / steps


def _as_json(config: ModelConfig) -> dict[str, object]:
    """As in a checkpoint's config.json."""
    return {
        "architectures": [config.architecture],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "torch_dtype": "bfloat16",
    }


def _page(rows: Sequence[Row], found: dict[str, str]) -> str:
    lines = [
        "# The native engine's decode steps",
        "",
        f"Written by `python -m benchmarks.decode_steps` on {found['date']}.",
        "",
    ]
    lines += [f"{found['device']}; {found['host']}. An 8B Llama's shape, random weights, bf16; medians.", ""]
    lines += ["| engine | batch | context | step, ms | tokens/s |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {r.engine} | {r.batch} | {r.context} | {r.step_ms:.2f} | {r.tokens_per_s:,.0f} |" for r in rows]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.decode_steps", description="Measure decode steps on a GPU.")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 256], metavar="N", help="1 32 256")
    parser.add_argument("--context", type=int, default=1024, metavar="TOKENS", help="of each sequence (1024)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="measured for each row (50)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
