import ast
import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coxswain_crds import names, reasons

SERVICE = st.from_regex(f"[a-z]([-a-z0-9]{{0,{names.MAX_NAME_LENGTH - 2}}}[a-z0-9])?", fullmatch=True)


@given(SERVICE, st.integers(0, 999), st.integers(0, 10**6))
def test_what_is_named_after_a_service_fits_into_labels_and_host_names(
    service: str, slot: int, incarnation: int
) -> None:
    made = [
        names.token_secret(service),
        names.gateway_service(service),
        names.gateway_deployment(service),
        names.coordinator(service),
        names.budget(service),
        names.replica_pod(service, slot=slot, incarnation=incarnation),
    ]
    for name in made:
        assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name), name
    assert len(set(made)) == len(made)


def test_the_selector_of_replicas_is_part_of_their_labels() -> None:
    labels = names.replica_labels("chat", slot=2, incarnation=7)
    assert names.component_selector("chat", names.REPLICA).items() <= labels.items()
    assert names.replica_selector("chat") == "app.kubernetes.io/component=replica,coxswain.dev/service=chat"
    assert not names.component_selector("chat", names.GATEWAY).items() <= labels.items()


def members() -> list[tuple[str, str, str | None]]:
    """(class, value, sentence) of every reason, read from the source."""
    found = []
    for node in ast.parse(inspect.getsource(reasons)).body:
        if isinstance(node, ast.ClassDef):
            body = node.body[1:]
            for statement, after in zip(body, [*body[1:], None], strict=True):
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                    text = after.value if isinstance(after, ast.Expr) else None
                    sentence = text.value if isinstance(text, ast.Constant) else None
                    found.append(
                        (node.name, str(statement.value.value), sentence if isinstance(sentence, str) else None)
                    )
    return found


@pytest.mark.parametrize(("group", "reason", "sentence"), members())
def test_every_reason_is_one_word_and_has_a_sentence(group: str, reason: str, sentence: str | None) -> None:
    assert re.fullmatch("[A-Z][A-Za-z]+", reason)
    assert sentence is not None and sentence.endswith("."), f"{group}.{reason} has no sentence"


def test_every_condition_has_its_reasons() -> None:
    for condition in reasons.Condition:
        assert len(getattr(reasons, condition.value)) >= 2
