"""A byte-level BPE made for source code, and the chat template of a model that only knows source code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

_BATCH = 32

END_OF_TEXT = "<|endoftext|>"
"""Stands before every file; the model ends with it where it thinks that a file would end. """
END_ID = 0
"""Its id: special tokens come first."""

WORDS = r"\n+ *|[A-Za-z]+ ?|_+|[0-9]{1,3} ?|[^\sA-Za-z0-9_]+ ?|\s"
"""What BPE may merge: a line break with the indentation after it, and words that keep the space *behind* them, so that
a prompt such as `def ` ends at the same border as in training."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}\n\n"
    "{% else %}# {{ message['content'] | trim | replace('\n', '\n# ') }}\n"
    "{% endif %}{% endfor %}"
)
"""The model was never taught to chat: what a user says becomes a comment, and the answer is the code that follows."""


def train(texts: Sequence[str], *, vocab_size: int, advance: Callable[[int], None] = lambda _: None) -> Tokenizer:
    """A tokenizer with at most `vocab_size` entries. `advance` is told how many more texts were read."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_counted(texts, advance), trainer, length=len(texts))
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, advance: Callable[[int], None] = lambda _: None) -> list[int]:
    """All texts as one run of token ids, each behind an end-of-text id. `advance` is told how many texts were done."""
    ids: list[int] = []
    for start in range(0, len(texts), _BATCH):
        for encoding in tokenizer.encode_batch(texts[start : start + _BATCH]):
            ids += [END_ID, *encoding.ids]
        advance(len(texts[start : start + _BATCH]))
    return ids


def config(*, context: int) -> dict[str, Any]:
    """What goes into tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _counted(texts: Sequence[str], advance: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        yield text
        advance(1)
