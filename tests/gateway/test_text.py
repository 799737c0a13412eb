"""Pieces of text join to what decoding everything at once gives, whatever the tokens and wherever they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from coxswain_gateway.stops import StopMatcher
from coxswain_gateway.text import ByteDetokenizer, ByteTable, WindowDetokenizer, is_byte_level
from tests.gateway.conftest import TEXT, train_tokenizer

BYTE_LEVEL = train_tokenizer()
TABLE = ByteTable(BYTE_LEVEL)
VOCABULARY = BYTE_LEVEL.get_vocab_size()


def train_sentencepiece() -> Tokenizer:
    """A vocabulary like Llama 2's: metaspace, and bytes for what it lacks."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXT[:2], trainer)
    return tokenizer


texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("🦊👩‍👩‍👧‍👦你好ñé \n"), max_size=60)


@given(texts)
def test_text_survives_its_tokens(text: str) -> None:
    detokenizer = ByteDetokenizer(TABLE)
    tokens = BYTE_LEVEL.encode(text).ids
    assert "".join(map(detokenizer.feed, tokens)) + detokenizer.flush() == text


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=40), st.booleans())
def test_any_tokens_give_what_the_library_gives(tokens: list[int], skip_special: bool) -> None:
    detokenizer = ByteDetokenizer(TABLE, skip_special=skip_special)
    pieces = "".join(map(detokenizer.feed, tokens)) + detokenizer.flush()
    assert pieces == BYTE_LEVEL.decode(tokens, skip_special_tokens=skip_special)


@given(texts)
def test_no_replacement_character_is_shown_before_its_time(text: str) -> None:
    detokenizer = ByteDetokenizer(TABLE)
    shown = ""
    for token in BYTE_LEVEL.encode(text).ids:
        shown += detokenizer.feed(token)
        assert text.startswith(shown)


SENTENCEPIECE = train_sentencepiece()


@given(texts)
def test_other_vocabularies_survive_too(text: str) -> None:
    tokens = SENTENCEPIECE.encode(text).ids
    detokenizer = WindowDetokenizer(SENTENCEPIECE)
    pieces = "".join(map(detokenizer.feed, tokens)) + detokenizer.flush()
    assert pieces == SENTENCEPIECE.decode(tokens)


def test_kinds_are_told_apart() -> None:
    assert is_byte_level(BYTE_LEVEL.to_str().encode())
    assert not is_byte_level(SENTENCEPIECE.to_str().encode())


def test_a_token_beyond_the_vocabulary_is_no_text() -> None:
    assert ByteDetokenizer(TABLE).feed(10**6) == ""
    assert ByteDetokenizer(TABLE).feed(-1) == ""


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
    st.booleans(),
)
def test_stops_are_found_wherever_the_text_is_cut(text: str, stops: list[str], width: int, include: bool) -> None:
    matcher = StopMatcher(stops, include=include)
    shown = ""
    for start in range(0, len(text), width):
        shown += matcher.feed(text[start : start + width])
        if matcher.matched is not None:
            break
        assert not any(stop in shown for stop in stops)
    else:
        shown += matcher.flush()
    if matcher.matched is None:
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        head = shown.removesuffix(matcher.matched) if include else shown
        assert text.startswith(head + matcher.matched)
        assert not any(stop in head for stop in stops)


@pytest.mark.parametrize("piece", [1, 2, 7])
def test_nothing_is_held_that_cannot_become_a_stop(piece: int) -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("hello" * piece) == "hello" * piece
    assert matcher.feed("E") == ""
    assert matcher.feed("N") == ""
    assert matcher.feed("Z") == "ENZ"
