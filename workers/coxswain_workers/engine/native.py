"""The native engine: batching decisions, a runner and a sampler, one step at a time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from coxswain_protocol.messages import Chunk, EngineInfo, Finish, Load, Request, StepEvent, TokenLogprob
from coxswain_scheduler.batching import Batch, Batcher, BlockPool, Limits, TokenSequence, check_batcher
from coxswain_workers.engine.config import ModelConfig, read_config
from coxswain_workers.engine.errors import AcceleratorError, ArgumentError, NotEnoughMemoryError
from coxswain_workers.engine.interface import EngineOptions, StepOutput
from coxswain_workers.engine.memory import available_bytes
from coxswain_workers.engine.model import Model, load_model
from coxswain_workers.engine.requests import Running, problem
from coxswain_workers.engine.runner import Runner
from coxswain_workers.engine.sampler import sample
from coxswain_workers.engine.selfcheck import arrange_exact, is_exact, measure_step_floor
from coxswain_workers.engine.tokenizer import check_tokenizer, tokenizer_digest
from coxswain_workers.engine.torch_runner import TorchRunner
from coxswain_workers.engine.triton_runner import TritonRunner
from coxswain_workers.engine.weights import weight_files, weights_digest


class NativeEngine:
    """Implements `Engine`. Made by `load_native`."""

    def __init__(self, runner: Runner, info: EngineInfo, options: EngineOptions) -> None:
        self.info = info
        self._runner = runner
        self._check = options.check_integrity
        self._pool = BlockPool(size=info.num_blocks)
        limits = Limits(max_num_seqs=options.max_num_seqs, max_step_tokens=options.max_step_tokens)
        self._batcher: Batcher[TokenSequence] = Batcher(pool=self._pool, block_size=info.block_size, limits=limits)
        self._requests: dict[str, Running] = {}
        self._immediate: list[Chunk] = []
        self._steps = 0

    def submit(self, request: Request) -> None:
        """Queue a request; what is wrong with it comes as a chunk of the next step."""
        message = problem(request, self.info)
        if message is None and request.id in self._requests:
            message = f"a request with the id {request.id} is already running"
        if message is not None:
            self._immediate.append(Chunk(request.id, len(request.output), (), finish=Finish("error", message)))
            return
        sequence = TokenSequence(
            request.id, prompt=request.prompt, output=request.output, block_size=self.info.block_size
        )
        running = Running(request, sequence)
        if finish := running.finish(self.info):
            self._immediate.append(Chunk(request.id, len(request.output), (), finish=finish))
            return
        self._requests[request.id] = running
        self._batcher.add(sequence)

    def abort(self, id: str) -> None:  # noqa: A002
        """Stop a request; an unknown id is ignored."""
        self._batcher.remove(id)
        self._requests.pop(id, None)
        self._immediate = [chunk for chunk in self._immediate if chunk.id != id]

    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._immediate) or self._batcher.has_work()

    def step(self) -> StepOutput:
        """Schedule, compute, sample, and say what came of it."""
        began = time.perf_counter()
        chunks, self._immediate = self._immediate, []
        batch = self._batcher.schedule()
        self._verify(batch)
        if batch.entries:
            logits = self._runner.run(batch.entries)
            self._batcher.commit(batch)
            chunks += self._advance(batch, logits)
        self._verify(batch)
        self._steps += 1
        event = StepEvent(
            number=self._steps,
            seconds=time.perf_counter() - began,
            prefill_tokens=batch.prefill_tokens,
            decode_sequences=len(batch.decodes),
            context=batch.context,
            preemptions=len(batch.preempted),
        )
        return StepOutput(event, chunks, *self._pool.drain_events())

    def load(self) -> Load:
        """What is in hand now."""
        running, waiting = self._batcher.running.values(), self._batcher.waiting
        return Load(
            running=len(running),
            waiting=len(waiting),
            free_blocks=self._pool.free,
            total_blocks=self._pool.size,
            pending_prefill=sum(sequence.pending for sequence in self._batcher.sequences() if sequence.pending > 1),
            context=sum(sequence.computed for sequence in running),
            decoding=len(running) - len(self._batcher.prefilling),
        )

    def reusable_blocks(self) -> tuple[int, ...]:
        """Hashes of every KV block that a prompt could reuse now."""
        return self._pool.hashes()

    def _advance(self, batch: Batch[TokenSequence], logits: torch.Tensor) -> list[Chunk]:
        """Sample a token for each sequence whose tokens are all computed, and let go of those that end."""
        running = [self._requests[entry.sequence.id] for entry in batch.entries if entry.samples]
        tokens, logprobs = sample(logits.cpu().numpy(), [one.choice(self.info) for one in running])
        return [self._extend(*each) for each in zip(running, tokens, logprobs, strict=True)]

    def _extend(self, running: Running, token: int, logprob: TokenLogprob | None) -> Chunk:
        sequence = running.sequence
        start = len(sequence.tokens) - sequence.prompt_len
        sequence.append(token)
        finish = running.finish(self.info)
        cached = (sequence.cached or 0) if running.first else 0
        running.first = False
        if finish:
            self._batcher.remove(sequence.id)
            del self._requests[sequence.id]
        return Chunk(sequence.id, start, (token,), () if logprob is None else (logprob,), finish, cached)

    def _verify(self, batch: Batch[TokenSequence]) -> None:
        if self._check:
            check_batcher(self._batcher, batch)


def load_native(path: str | Path, options: EngineOptions) -> NativeEngine:
    """Load a checkpoint directory and make it ready to serve. Raises subclasses of ModelError."""
    path = Path(path)
    if options.device == "auto":
        options = replace(options, device="cuda" if torch.cuda.is_available() else "cpu")
    config = read_config(path)
    check_tokenizer(path, vocab_size=config.vocab_size)
    _use_threads(options)
    dtype = _dtype(options)
    weights = sum(file.stat().st_size for file in weight_files(path))
    _require_memory(weights, options.device, what="the weights")
    max_model_len = min(options.max_model_len or config.max_position_embeddings, config.max_position_embeddings)
    model = load_model(path, config, positions=max_model_len, dtype=dtype, device=options.device)
    num_blocks = _num_blocks(config, options, max_model_len=max_model_len, dtype=dtype)
    runner, exact = _runner(model, options, num_blocks=num_blocks)
    info = EngineInfo(
        engine="native",
        model=options.model or path.name,
        weights_digest=weights_digest(path),
        tokenizer_digest=tokenizer_digest(path),
        vocab_size=config.vocab_size,
        max_model_len=min(max_model_len, num_blocks * options.block_size),
        block_size=options.block_size,
        num_blocks=num_blocks,
        max_num_seqs=options.max_num_seqs,
        eos_ids=config.eos_ids,
        accelerator=options.device,
        features=frozenset({"exact"} if exact else ()),
        step_floor_seconds=measure_step_floor(runner),
        max_step_tokens=options.max_step_tokens,
    )
    return NativeEngine(runner, info, options)


def _runner(model: Model, options: EngineOptions, *, num_blocks: int) -> tuple[Runner, bool]:
    """By the device, and whether its arithmetic is exact: on a GPU by Triton where there are kernels for the model."""
    exact, size = options.arithmetic == "exact", options.block_size
    if model.embedding.device.type != "cpu" and TritonRunner.supports(model.config, block_size=size):
        by_triton = TritonRunner(model, num_blocks=num_blocks, block_size=size, invariant=exact)
        return by_triton, exact and is_exact(by_triton)
    by_torch = TorchRunner(model, num_blocks=num_blocks, block_size=size)
    return by_torch, exact and arrange_exact(by_torch) is not None


def _use_threads(options: EngineOptions) -> None:
    threads = options.threads or (1 if options.arithmetic == "exact" else None)
    if threads is not None:
        torch.set_num_threads(threads)


def _dtype(options: EngineOptions) -> torch.dtype:
    """float32 on a CPU, whatever the checkpoint holds; bfloat16 on a GPU."""
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        raise ArgumentError(f"--device is {options.device!r}: {error}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AcceleratorError(f"--device is {options.device}, and torch sees no GPU here", field="spec.engine.args")
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _num_blocks(config: ModelConfig, options: EngineOptions, *, max_model_len: int, dtype: torch.dtype) -> int:
    """KV blocks to hold. Raises NotEnoughMemoryError where not even one full sequence fits."""
    block = 2 * config.layers * config.kv_heads * config.head_dim * options.block_size * dtype.itemsize
    if options.num_blocks is not None:
        _require_memory(block * options.num_blocks, options.device, what=f"{options.num_blocks} KV blocks")
        return options.num_blocks
    one = -(-max_model_len // options.block_size)
    _require_memory(block * one, options.device, what=f"the KV cache of one sequence of {max_model_len} tokens")
    return max(one, min(one * options.max_num_seqs, available_bytes(options.device) // 2 // block))


def _require_memory(needed: int, device: str, *, what: str) -> None:
    free = available_bytes(device)
    if needed > free:
        raise NotEnoughMemoryError(
            f"{what} need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
            "give the replica more memory, or lower --max-model-len or --num-blocks",
            field="spec.engine.args",
        )
