import msgspec
import pytest

from coxswain_protocol.messages import EngineInfo
from coxswain_scheduler.resuming import best_places, continues_exactly


def info() -> EngineInfo:
    return EngineInfo(
        engine="native",
        model="m",
        weights_digest="w",
        tokenizer_digest="t",
        vocab_size=1000,
        max_model_len=4096,
        block_size=16,
        num_blocks=100,
        max_num_seqs=8,
        eos_ids=(),
    )


EXACT = msgspec.structs.replace(info(), features=frozenset({"exact"}))
FAST = info()
OTHER_GPU = msgspec.structs.replace(EXACT, accelerator="h100")
NEW_MODEL = msgspec.structs.replace(EXACT, weights_digest="w2")


@pytest.mark.parametrize(
    ("origin", "target", "exactly"),
    [
        (EXACT, EXACT, True),
        (EXACT, FAST, False),
        (FAST, EXACT, False),
        (EXACT, OTHER_GPU, False),
        (EXACT, NEW_MODEL, False),
    ],
)
def test_what_continues_exactly(origin: EngineInfo, target: EngineInfo, exactly: bool) -> None:
    assert continues_exactly(origin, target) is exactly


@pytest.mark.parametrize(
    ("exact", "candidates", "expected"),
    [
        (True, {"e": EXACT, "f": FAST, "n": NEW_MODEL}, (["e"], True)),
        (True, {"f": FAST, "n": NEW_MODEL}, (["f"], False)),
        (True, {"n": NEW_MODEL}, (["n"], False)),
        (False, {"e": EXACT, "f": FAST, "n": NEW_MODEL}, (["e", "f"], True)),
        (False, {"n": NEW_MODEL}, (["n"], False)),
        (True, {}, ([], False)),
    ],
)
def test_falls_back_step_by_step(
    exact: bool, candidates: dict[str, EngineInfo], expected: tuple[list[str], bool]
) -> None:
    assert best_places(EXACT, candidates, exact=exact) == expected


def test_what_has_no_output_may_start_anywhere() -> None:
    assert best_places(None, {"e": EXACT, "n": NEW_MODEL}, exact=True) == (["e", "n"], True)
