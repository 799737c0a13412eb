"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from coxswain_operator.flags import parse

RUN = ["run", "--worker-image=worker:1"]


def test_defaults_work_with_nothing_but_an_image() -> None:
    options = parse(RUN)
    assert (options.settings.worker_image, options.settings.gateway_image) == ("worker:1", "worker:1")
    assert options.settings.allowed_file_prefixes == ()
    assert (options.metrics_port, options.webhook_port, options.webhook_cert) == (8080, 9443, None)
    assert options.identity


def test_lists_are_repeated_or_separated_by_commas() -> None:
    options = parse([*RUN, "--image-pull-secrets=a,b", "--image-pull-secrets=c", "--watch-namespace=x,y"])
    assert options.settings.image_pull_secrets == ("a", "b", "c")
    assert options.watch_namespaces == ("x", "y")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["run"], "--worker-image"),
        ([], "command"),
        ([*RUN, "--metrics-port=0"], "0 is not a port"),
        ([*RUN, "--metrics-port=many"], "many is not a port"),
        ([*RUN, "--allowed-file-prefix=models"], "must be an absolute path"),
        ([*RUN, "--allowed-file-prefix=/models/../etc"], "must be an absolute path without .."),
        ([*RUN, "--image-pull-policy=Sometimes"], "Sometimes"),
        ([*RUN, "--kubeconfig=/does/not/exist"], "there is no file /does/not/exist"),
        ([*RUN, "--colour=blue"], "--colour=blue"),
    ],
)
def test_a_bad_flag_is_named_and_ends_with_code_2(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(flags)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_certificate_without_its_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tls.crt").touch()
    with pytest.raises(SystemExit):
        parse([*RUN, f"--webhook-cert={tmp_path}"])
    assert "tls.key" in capsys.readouterr().err
