"""The example's training program, for twenty steps instead of a thousand."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from examples.tiny_model import checkpoint, corpus, tokenizer
from examples.tiny_model.errors import CorpusError, OccupiedError
from examples.tiny_model.settings import Settings
from examples.train_tiny_model import ensure_model, main

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(steps=20, bigram_steps=20, vocab_size=600, layers=2, batch=1, window=64, seed=7)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model_path(cache: Path) -> Path:
    texts = corpus.read()[:100]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "read", lambda: texts)
        return ensure_model(quiet(), cache=cache, threads=1, settings=SETTINGS)


@pytest.fixture(scope="module")
def words(model_path: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_the_checkpoint_is_one_that_transformers_loads_and_continues(
    model_path: Path, words: PreTrainedTokenizerBase
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(model_path)
    prompt = torch.tensor([words.encode("def ")])
    output = model.generate(prompt, max_new_tokens=8, do_sample=False)
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert prompt.shape[1] < output.shape[1] <= prompt.shape[1] + 8


def test_a_few_steps_beat_the_frequencies_of_single_tokens(model_path: Path, words: PreTrainedTokenizerBase) -> None:
    ids = torch.tensor(words.encode("\n\n".join(corpus.read()[:20])))
    frequencies = torch.bincount(ids).double() / len(ids)
    entropy = -(frequencies[frequencies > 0].log() * frequencies[frequencies > 0]).sum()
    assert json.loads((model_path / "training.json").read_text())["loss_nats_per_token"] < entropy - 0.5


@pytest.mark.parametrize(
    "text", ["def f(x):\n    return x ** 2\n", "naïve café 🚀 你好\t\r\n", " leading", "", "\x00\x7f"]
)
def test_text_survives_the_tokenizer(words: PreTrainedTokenizerBase, text: str) -> None:
    assert words.decode(words.encode(text)) == text


def test_a_prompt_ends_at_a_border_the_model_has_seen(words: PreTrainedTokenizerBase) -> None:
    assert words.encode("def steer") == words.encode("def ") + words.encode("steer")


def test_a_chat_becomes_a_comment_that_code_follows(words: PreTrainedTokenizerBase) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add numbers.\nAll of them."},
        {"role": "assistant", "content": "sum(numbers)"},
        {"role": "user", "content": "Sort them."},
    ]
    text = words.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "# Be brief.\n# Add numbers.\n# All of them.\nsum(numbers)\n\n# Sort them.\n"


def test_a_second_run_uses_the_checkpoint_of_the_first(
    cache: Path, model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {file.name: file.stat().st_mtime_ns for file in model_path.iterdir()}
    assert ensure_model(quiet(), cache=cache, settings=SETTINGS) == model_path
    assert {file.name: file.stat().st_mtime_ns for file in model_path.iterdir()} == written
    assert sorted(written) == sorted(checkpoint.FILES)


def test_the_command_prints_the_path_last(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("examples.train_tiny_model.ensure_model", lambda console, **_: model_path)
    assert main(["--steps", "20"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(model_path)


def test_an_incomplete_checkpoint_is_not_used(model_path: Path, tmp_path: Path) -> None:
    fingerprint = json.loads((model_path / "training.json").read_text())["fingerprint"]
    assert checkpoint.holds(model_path, fingerprint=fingerprint)
    assert not checkpoint.holds(model_path, fingerprint="another")
    for name in checkpoint.FILES[:-1]:
        (tmp_path / name).touch()
    assert not checkpoint.holds(tmp_path, fingerprint=fingerprint)


def test_other_files_are_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OccupiedError):
        ensure_model(quiet(), out=tmp_path, settings=SETTINGS)
    assert main(["--out", str(tmp_path)]) == 1
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "flags", [["--steps", "0"], ["--minutes", "-1"], ["--steps", "1", "--minutes", "1"], ["--what"]]
)
def test_wrong_flags_are_named(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert flags[-2 if flags[-1][0] != "-" else -1] in capsys.readouterr().err


def test_an_interpreter_without_library_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no \.py files"):
        corpus.read(tmp_path)


def test_a_killed_run_leaves_nothing_and_does_not_stop_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.train_tiny_model", "--cache", str(tmp_path), "--threads", "1"]
    run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
    try:
        wait_for_line(run, "Learn the tokenizer")
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=30)
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / f".tiny-0.partial-{run.pid}"
    left.mkdir()
    checkpoint.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_still_writes_is_left_alone(tmp_path: Path) -> None:
    busy = tmp_path / f".tiny-0.partial-{os.getpid()}"
    busy.mkdir()
    checkpoint.sweep(tmp_path)
    assert busy.exists()


def test_what_is_trained_is_python_without_its_tests() -> None:
    texts = corpus.read()
    assert len(texts) > 100
    assert any("class ThreadPoolExecutor" in text for text in texts)
    assert tokenizer.END_OF_TEXT not in "".join(texts)


def wait_for_line(run: subprocess.Popen[str], text: str, *, seconds: float = 60) -> None:
    """Read stderr up to a line with `text`; the process ends, or the deadline passes, only in failure."""
    assert run.stderr is not None
    deadline = time.monotonic() + seconds
    for line in run.stderr:
        if text in line:
            return
        assert time.monotonic() < deadline, f"no line with {text!r} within {seconds} s"
    raise AssertionError(f"the run ended before a line with {text!r}")
