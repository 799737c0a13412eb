"""What gateways and replicas say to each other.

A replica dials every gateway of its service and says `Hello`. The gateway answers `Welcome` (or `Refused`), learns the
tokenizer if it does not hold one of that digest, and from then on submits requests and reads one `Step` frame for each
engine step that concerned it, and a `Beat` every 100 ms. Token ids only; no message carries text.

All structs are arrays on the wire, tagged by a short string, so adding a field at the end is compatible both ways.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PROTOCOL_VERSION = 1

FinishReason = Literal["stop", "length", "abort", "error"]


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How to choose tokens. The seed is always set: noise is keyed by (seed, absolute position)."""

    seed: int
    temperature: float = 1.0
    """0 is greedy: the highest logit, the lowest id on a tie."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    min_p: float = 0.0
    max_tokens: int = 16
    """Tokens to produce in all, those of `Request.output` included."""
    min_tokens: int = 0
    """No end-of-sequence and no stop id before this many output tokens."""
    stop_ids: tuple[int, ...] = ()
    """Extra token ids that end the output, beside the model's own end-of-sequence ids."""
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    """How many alternatives to report beside the chosen token's log-probability; None reports nothing."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One sequence to continue. `prompt` and `output` stay apart for ever, so penalties and limits survive a move."""

    id: str
    """Unique per attempt, so that the tokens of a superseded attempt are told from the current one's."""
    prompt: tuple[int, ...]
    sampling: Sampling
    output: tuple[int, ...] = ()
    """Tokens already produced elsewhere: the engine prefills them and continues at `len(output)`."""


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Natural-log probabilities at one position, after penalties, before temperature and truncation."""

    chosen: float
    top: tuple[tuple[int, float], ...] = ()
    """(token id, log-probability) of the best alternatives, best first."""


class Finish(msgspec.Struct, frozen=True, array_like=True):
    """Why a sequence ended. `message` explains an error in one sentence meant for the client."""

    reason: FinishReason
    message: str = ""
    stop_id: int | None = None
    """The token that ended the output, when one did (it is among the tokens of the last chunk)."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of one request from one step. `start` is the absolute index in the output, so duplicates drop out."""

    id: str
    start: int
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Finish | None = None
    cached: int = 0
    """Prompt tokens that came from the prefix cache; set on the first chunk of an attempt."""


class Load(msgspec.Struct, frozen=True, array_like=True):
    """What a replica has in hand right now."""

    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    total_blocks: int = 0
    pending_prefill: int = 0
    """Prompt tokens admitted or waiting that are not yet computed."""
    context: int = 0
    """Tokens of KV held by running sequences."""
    decoding: int = 0
    """Running sequences past their prefill."""


class StepEvent(msgspec.Struct, frozen=True, array_like=True):
    """One engine step, as the cost model wants it."""

    number: int
    seconds: float
    prefill_tokens: int
    decode_sequences: int
    context: int
    """Sum over the step's sequences of the KV tokens attended to."""
    preemptions: int = 0


class EngineInfo(msgspec.Struct, frozen=True, array_like=True):
    """What an engine is. Features are asked for by name, never guessed."""

    engine: str
    model: str
    weights_digest: str
    tokenizer_digest: str
    vocab_size: int
    max_model_len: int
    block_size: int
    num_blocks: int
    max_num_seqs: int
    eos_ids: tuple[int, ...]
    accelerator: str = "cpu"
    features: frozenset[str] = frozenset()
    """`exact`: a row's logits depend on its own tokens only, bit for bit, checked at start-up."""
    step_floor_seconds: float = 0.0
    """The fastest decode step measured at start-up: no inter-token objective below it can be met."""
    max_step_tokens: int = 0
    """Tokens that it computes in one step at most; 0 where it does not say."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """First frame of a replica."""

    protocol: int
    token: str
    """The service's shared secret."""
    replica: str
    """Pod name."""
    incarnation: str
    """Random per engine process: a restarted engine is another member of the same name."""
    info: EngineInfo
    draining: bool = False


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """First frame of a gateway, accepting the replica."""

    gateway: str
    wants_tokenizer: bool


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The gateway will not have this replica; the connection closes after it."""

    reason: str


class Tokenizer(msgspec.Struct, frozen=True, array_like=True, tag="tokenizer"):
    """The files a gateway needs to read and write text for a model, by name."""

    digest: str
    files: dict[str, bytes]
    """`tokenizer.json`, `tokenizer_config.json`, and where present `chat_template.jinja`, `generation_config.json`."""


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    """Sign of life: every 100 ms from replicas, every second from gateways."""

    number: int
    steps: int = 0
    load: Load = Load()


class Step(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """One engine step: the chunks of this gateway's requests, and what every gateway's index needs."""

    event: StepEvent
    chunks: tuple[Chunk, ...] = ()
    stored: tuple[int, ...] = ()
    """Hashes of KV blocks that became reusable."""
    removed: tuple[int, ...] = ()
    load: Load = Load()


class Blocks(msgspec.Struct, frozen=True, array_like=True, tag="blocks"):
    """Every reusable KV block of the replica: sent after `Welcome`, replaces what the gateway believed."""

    hashes: tuple[int, ...]


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag="leaving"):
    """The replica drains: send nothing new, move what it runs before `seconds` have passed."""

    seconds: float
    finish: bool = False
    """What it runs may end where it is (`onDrain: Finish`); only what is left near the end of `seconds` is moved."""


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Run this."""

    request: Request


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Stop this and free its blocks; an unknown id is ignored."""

    id: str


FromReplica = Hello | Tokenizer | Beat | Step | Blocks | Leaving
FromGateway = Welcome | Refused | Beat | Submit | Abort
