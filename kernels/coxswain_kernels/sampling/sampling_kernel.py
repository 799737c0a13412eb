"""The kernels of `sampling`, in the order in which they run. Each program has a piece of a row of logits."""

from __future__ import annotations

import triton
import triton.language as tl

from coxswain_kernels.sampling import fixed_point


@triton.jit
def peaks_kernel(logits, stride, peaks, places, VOCAB: tl.constexpr, BLOCK: tl.constexpr) -> None:
    """The highest logit of each piece, and the lowest token that has it."""
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    tokens = piece * BLOCK + tl.arange(0, BLOCK)
    values = _logits(logits + row * stride, tokens, VOCAB)
    peak = tl.max(values, axis=0)
    at = row * tl.num_programs(1) + piece
    tl.store(peaks + at, peak)
    tl.store(places + at, tl.min(tl.where((values == peak) & (tokens < VOCAB), tokens, VOCAB), axis=0))


@triton.jit
def tally_kernel(
    logits,
    stride,
    peaks,
    temperature,
    top_k,
    top_p,
    min_p,
    states,
    tallies,
    STEP: tl.constexpr,
    VOCAB: tl.constexpr,
    BLOCK: tl.constexpr,
    PIECES: tl.constexpr,
    ROUND: tl.constexpr,
    LOG2: tl.constexpr,
    EXP2: tl.constexpr,
) -> None:
    """How many tokens (steps 0 to 2), or what weight (3 to 5), have each value of the next 8 bits of their distance.

    Only of tokens whose bits before those are the ones found so far: three steps find all 24 bits of the distance at
    which the top k end, three more that of the top p. Sums are of integers, so their order is of no consequence.
    """
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    heat, k, p = tl.load(temperature + row), tl.load(top_k + row), tl.load(top_p + row)
    limit, prefix, wanted = _state(states, tallies, row, k, p, tl.load(min_p + row), STEP, VOCAB, LOG2, EXP2)
    if piece == 0:
        state = states + (row * 6 + STEP) * 3
        tl.store(state, limit.to(tl.int64))
        tl.store(state + 1, prefix.to(tl.int64))
        tl.store(state + 2, wanted)
    truncates = _truncates(k, p, STEP, VOCAB)
    if truncates & (heat > 0):
        tokens = piece * BLOCK + tl.arange(0, BLOCK)
        values = _logits(logits + row * stride, tokens, VOCAB)
        distance = _distances(values, peaks + row * PIECES, heat, PIECES, ROUND)
        shift: tl.constexpr = 16 - STEP % 3 * 8
        taken = (tokens < VOCAB) & (distance <= limit) & ((distance >> shift >> 8) == prefix)
        bins = tallies + (row * 6 + STEP) * 256
        digits = (distance >> shift) & 255
        if STEP < 3:
            counts = tl.histogram(digits, 256, mask=taken).to(tl.int64)
            tl.atomic_add(bins + tl.arange(0, 256), counts, mask=counts > 0, sem="relaxed")
        else:
            weights = fixed_point.weight(distance, EXP2)
            tl.atomic_add(bins + digits, weights, mask=taken & (weights > 0), sem="relaxed")


@triton.jit
def draw_kernel(
    logits,
    stride,
    peaks,
    temperature,
    top_k,
    top_p,
    min_p,
    seeds,
    positions,
    states,
    tallies,
    keys,
    VOCAB: tl.constexpr,
    BLOCK: tl.constexpr,
    PIECES: tl.constexpr,
    ROUND: tl.constexpr,
    LOG2: tl.constexpr,
    EXP2: tl.constexpr,
    RACE: tl.constexpr,
) -> None:
    """The lowest of each piece's scores, with its token in the lower half."""
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    heat, k, p = tl.load(temperature + row), tl.load(top_k + row), tl.load(top_p + row)
    best = tl.full([], 0x7FFFFFFFFFFFFFFF, tl.int64)
    if heat > 0:
        limit, _, _ = _state(states, tallies, row, k, p, tl.load(min_p + row), 6, VOCAB, LOG2, EXP2)
        tokens = piece * BLOCK + tl.arange(0, BLOCK)
        values = _logits(logits + row * stride, tokens, VOCAB)
        distance = _distances(values, peaks + row * PIECES, heat, PIECES, ROUND)
        kept = (tokens < VOCAB) & (distance <= limit)
        if tl.max(kept.to(tl.int32), axis=0) > 0:
            words = fixed_point.word(tl.load(seeds + row), tl.load(positions + row), tokens)
            scores = (distance << 6) + fixed_point.exponential(words, LOG2, RACE)
            best = tl.min(tl.where(kept, (scores.to(tl.int64) << 32) | tokens, best), axis=0)
    tl.store(keys + row * PIECES + piece, best)


@triton.jit
def choose_kernel(peaks, places, keys, chosen, VOCAB: tl.constexpr, PIECES: tl.constexpr, ROUND: tl.constexpr) -> None:
    """The token of a row's lowest score, or where none was drawn, of its highest logit."""
    row, pieces = tl.program_id(0).to(tl.int64), tl.arange(0, ROUND)
    inside = pieces < PIECES
    at = row * PIECES + pieces
    heights = tl.load(peaks + at, mask=inside, other=float("-inf"))
    place = tl.load(places + at, mask=inside, other=VOCAB)
    greedy = tl.min(tl.where(heights == tl.max(heights, axis=0), place, VOCAB), axis=0)
    none: tl.constexpr = 0x7FFFFFFFFFFFFFFF
    best = tl.min(tl.load(keys + at, mask=inside, other=none), axis=0)
    tl.store(chosen + row, tl.where(best == none, greedy.to(tl.int64), best & 0xFFFFFFFF))


@triton.jit
def _logits(row, tokens, VOCAB: tl.constexpr):
    """Between -1e38 and 1e38, which is what infinities count as; what is no number is as unlikely as can be."""
    values = tl.load(row + tokens, mask=tokens < VOCAB, other=-1e38)
    return tl.where(values > -1e38, tl.where(values < 1e38, values, 1e38), -1e38)


@triton.jit
def _distances(values, peaks, temperature, PIECES: tl.constexpr, ROUND: tl.constexpr):
    """How much less likely than the likeliest: halvings, in multiples of 2^-18; 2^24 is never drawn.

    Nothing is added to what was multiplied, so there is nothing that one compiler fuses and another does not.
    """
    pieces = tl.arange(0, ROUND)
    peak = tl.max(tl.load(peaks + pieces, mask=pieces < PIECES, other=float("-inf")), axis=0)
    factor = tl.div_rn(1.4426950408889634, tl.maximum(temperature, 1e-30))
    halvings = tl.minimum(tl.minimum(peak - values, 1e8) * factor, 64.0)
    return tl.where(values > -1e38, (halvings * 262144.0).to(tl.int32), 1 << 24)


@triton.jit
def _truncates(top_k, top_p, STEP: tl.constexpr, VOCAB: tl.constexpr):
    return (top_k > 0) & (top_k < VOCAB) if STEP < 3 else top_p < 1.0


@triton.jit
def _state(
    states,
    tallies,
    row,
    top_k,
    top_p,
    min_p,
    STEP: tl.constexpr,
    VOCAB: tl.constexpr,
    LOG2: tl.constexpr,
    EXP2: tl.constexpr,
):
    """What is known before a step: the greatest distance that is kept; the first bits of the next limit; how many
    tokens, or what weight, there are from those bits on to the limit. Before step 3 the last is how many more tokens
    than k are kept, for those that are as likely as the k-th are."""
    if STEP == 0:
        most = -(fixed_point.log2(tl.maximum(min_p, 2.0**-100), LOG2) >> 6)
        limit, prefix = tl.minimum(most, (1 << 24) - 1), tl.full([], 0, tl.int32)
        wanted = tl.full([], 0, tl.int64)
    else:
        state = states + (row * 6 + STEP - 1) * 3
        limit, prefix = tl.load(state).to(tl.int32), tl.load(state + 1).to(tl.int32)
        wanted = tl.load(state + 2)
        if _truncates(top_k, top_p, STEP - 1, VOCAB):
            bins = tl.load(tallies + (row * 6 + STEP - 1) * 256 + tl.arange(0, 256))
            if STEP == 1:
                wanted = tl.minimum(top_k.to(tl.int64), tl.sum(bins, axis=0))
            if STEP == 4:
                mass = tl.sum(bins, axis=0) - wanted * fixed_point.weight(limit, EXP2)
                # Both factors, and so the product's rounding, are those of IEEE 754.
                wanted = tl.ceil(top_p.to(tl.float64) * mass.to(tl.float64)).to(tl.int64)
            before = tl.cumsum(bins, axis=0) < wanted
            digit = tl.sum(before.to(tl.int32), axis=0)
            prefix = prefix * 256 + digit
            wanted -= tl.sum(tl.where(before, bins, 0), axis=0)
            if STEP % 3 == 0:
                limit = prefix
                wanted = tl.sum(tl.where(tl.arange(0, 256) == digit, bins, 0), axis=0) - wanted
        if STEP % 3 == 0:
            prefix = tl.full([], 0, tl.int32)
    return limit, prefix, wanted
