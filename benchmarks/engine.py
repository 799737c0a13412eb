"""Output tokens per second of the native engine, exact and fast, beside `transformers.generate` on the same model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from benchmarks.rows import Row, Section
from coxswain_protocol.messages import Request, Sampling
from coxswain_workers.engine.interface import Arithmetic, EngineOptions
from coxswain_workers.engine.native import NativeEngine, load_native
from examples.tiny_model import corpus

BATCHES = (1, 8, 32)
PROMPT_TOKENS = 64
OUTPUT_TOKENS = 128

Prompts = list[tuple[int, ...]]
Generate = Callable[[Prompts], list[list[int]]]


@dataclass
class Contender:
    """Something that continues prompts greedily by OUTPUT_TOKENS, and the seconds it took in each round."""

    name: str
    threads: int
    generate: Generate
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def run(self, prompts: Prompts, *, record: bool) -> list[list[int]]:
        """One round."""
        torch.set_num_threads(self.threads)
        started = time.perf_counter()
        outputs = self.generate(prompts)
        if record:
            self.seconds.setdefault(len(prompts), []).append(time.perf_counter() - started)
        return outputs

    def tokens_per_second(self, batch: int) -> float:
        """Median over the rounds."""
        return batch * OUTPUT_TOKENS / statistics.median(self.seconds[batch])


def measure(model: Path, *, rounds: int, console: Console) -> Section:
    """Interleave all contenders over the same prompts. Raises ValueError when outputs that must be equal differ."""
    cores = torch.get_num_threads()
    contenders = _contenders(model, cores=cores)
    prompts = _prompts(model)
    for number in range(rounds + 1):  # the first round warms up
        for batch in BATCHES:
            console.print(f"engine: round {number} of {rounds}, batch {batch}")
            _round(contenders, [next(prompts) for _ in range(batch)], record=number > 0)
    return Section(
        title="Engine",
        workload=(
            f"{PROMPT_TOKENS} prompt tokens, {OUTPUT_TOKENS} output tokens, greedy, all sequences at once, float32; "
            f"time includes prefill; prompts differ in every round. Median of {rounds} interleaved rounds. Exact ran "
            f"on 1 thread; fast and transformers ran with 1 and with {cores}, the better figure stands here."
        ),
        rows=_rows(contenders),
    )


def _contenders(model: Path, *, cores: int) -> list[Contender]:
    peer = _transformers(model)
    threads = sorted({1, cores})
    return [
        Contender("exact", 1, _native(model, "exact", threads=1)),
        *(Contender("fast", count, _native(model, "fast", threads=count)) for count in threads),
        *(Contender("transformers", count, peer) for count in threads),
    ]


def _round(contenders: Sequence[Contender], prompts: Prompts, *, record: bool) -> None:
    for contender in contenders:
        outputs = contender.run(prompts, record=record)
        lengths = {len(output) for output in outputs}
        if len(outputs) != len(prompts) or lengths != {OUTPUT_TOKENS}:
            raise ValueError(f"{contender.name} produced {lengths} tokens instead of {OUTPUT_TOKENS}")


def _rows(contenders: Sequence[Contender]) -> list[Row]:
    """Each at its best number of threads."""

    def best(name: str, batch: int) -> float:
        return max(one.tokens_per_second(batch) for one in contenders if one.name == name)

    return [
        Row(
            name=f"engine_{name}_batch_{batch}",
            value=best(name, batch),
            unit="tokens/s",
            peer="transformers.generate",
            peer_value=best("transformers", batch),
        )
        for name in ("exact", "fast")
        for batch in BATCHES
    ]


def _native(model: Path, arithmetic: Arithmetic, *, threads: int) -> Generate:
    options = EngineOptions(
        arithmetic=arithmetic, threads=threads, max_num_seqs=max(BATCHES), max_model_len=PROMPT_TOKENS + OUTPUT_TOKENS
    )
    engine = load_native(model, options)
    if arithmetic == "exact" and "exact" not in engine.info.features:
        raise ValueError("the check of the exact arithmetic did not hold on this machine")

    def generate(prompts: Prompts) -> list[list[int]]:
        return _drain(engine, prompts)

    return generate


def _drain(engine: NativeEngine, prompts: Prompts) -> list[list[int]]:
    sampling = Sampling(seed=0, temperature=0.0, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
    outputs: dict[str, list[int]] = {str(number): [] for number in range(len(prompts))}
    for name, prompt in zip(outputs, prompts, strict=True):
        engine.submit(Request(name, prompt, sampling))
    while engine.has_work():
        for chunk in engine.step().chunks:
            outputs[chunk.id] += chunk.tokens
    return list(outputs.values())


def _transformers(model: Path) -> Generate:
    peer: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    @torch.inference_mode()
    def generate(prompts: Prompts) -> list[list[int]]:
        ids = torch.tensor(prompts)
        output = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            temperature=None,
            top_p=None,
            min_new_tokens=OUTPUT_TOKENS,
            max_new_tokens=OUTPUT_TOKENS,
        )
        tokens: list[list[int]] = output[:, PROMPT_TOKENS:].tolist()
        return tokens

    return generate


def _prompts(model: Path) -> Any:
    """Windows of the standard library, one after another, never the same twice."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    for text in corpus.read():
        ids = tokenizer.encode(text).ids
        for start in range(0, len(ids) - PROMPT_TOKENS, PROMPT_TOKENS):
            yield tuple(ids[start : start + PROMPT_TOKENS])
