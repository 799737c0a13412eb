from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coxswain_scheduler.batching import ROOT, block_hash, block_hashes

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=40)


def test_hashes_are_the_same_on_every_machine_and_in_every_release() -> None:
    assert block_hash(ROOT, [1, 2, 3, 4]) == 7642355207873219123
    assert block_hash(7642355207873219123, (1, 2, 3, 4)) == 10498549999645231166


@given(TOKENS, st.integers(1, 8))
def test_every_full_block_has_a_hash_that_names_all_tokens_before_it(tokens: list[int], block_size: int) -> None:
    hashes = block_hashes(tokens, block_size=block_size)
    assert len(hashes) == len(tokens) // block_size
    for index, value in enumerate(hashes):
        assert block_hashes(tokens[: (index + 1) * block_size], block_size=block_size)[-1] == value


@given(TOKENS, TOKENS, st.integers(1, 8))
def test_hashes_agree_exactly_as_far_as_the_tokens_do(ours: list[int], theirs: list[int], block_size: int) -> None:
    pairs = zip(block_hashes(ours, block_size=block_size), block_hashes(theirs, block_size=block_size), strict=False)
    for index, (mine, yours) in enumerate(pairs):
        end = (index + 1) * block_size
        assert (mine == yours) == (ours[:end] == theirs[:end])
