from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from annotated_types import MaxLen

from coxswain_crds import definitions, generate
from coxswain_crds.schema import ListMap, Model
from coxswain_crds.structural import UnsupportedSchemaError, structural

ALLOWED_KEYS = {
    "type", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "maxItems", "maxProperties", "required",
    "properties", "items", "additionalProperties", "description", "default", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-validations", "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def schemas(root: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of a tree, with its path."""
    yield path, root
    for name, field in root.get("properties", {}).items():
        yield from schemas(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(root.get(key), dict):
            yield from schemas(root[key], f"{path}[]")


def root(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


BOTH = [definitions.llm_services(), definitions.accelerator_classes()]


def test_the_files_in_the_repository_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_a_stale_file_is_named_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"--out={tmp_path}", f"--chart={tmp_path / 'chart'}"]
    assert generate.main(folders) == 0
    assert generate.main([*folders, "--check"]) == 0
    stale = tmp_path / "llmservices.yaml"
    stale.write_text(stale.read_text().replace("maximum: 1000", "maximum: 10"))
    capsys.readouterr()
    assert generate.main([*folders, "--check"]) == 1
    assert f"out of date: {stale}" in capsys.readouterr().out
    assert generate.main(folders) == 0
    assert generate.main([*folders, "--check"]) == 0


@pytest.mark.parametrize("definition", BOTH, ids=lambda d: str(d["metadata"]["name"]))
def test_schemas_are_structural_described_bounded_and_small(definition: dict[str, Any]) -> None:
    assert len(yaml.safe_dump(definition)) < definitions.MAX_BYTES
    for path, schema in schemas(root(definition)):
        assert schema.keys() <= ALLOWED_KEYS, path
        assert "type" in schema, path
        assert path.endswith("[]") or schema.get("description"), f"{path} has no description"
        if schema["type"] == "integer":
            assert "minimum" in schema, path
        if schema["type"] == "array":
            assert "maxItems" in schema, f"{path} is unbounded, and so is the cost of rules inside it"
        if "x-kubernetes-validations" in schema and schema["type"] == "string":
            assert "maxLength" in schema, f"{path} is unbounded, and so is the cost of its rules"


def test_every_file_of_the_chart_keeps_its_definition_on_uninstall() -> None:
    for text in generate.chart_documents().values():
        assert "helm.sh/resource-policy: keep" in text


def test_int_or_string_and_list_maps_and_references_become_structural() -> None:
    class Port(Model):
        name: str
        port: int | str
        """A number or a name."""

    class Thing(Model):
        ports: Annotated[list[Port], MaxLen(4), ListMap("name")]
        limits: dict[str, int | str] | None = None
        main: Port | None = None
        """The one that matters."""

    schema = structural(Thing)
    assert schema["required"] == ["ports"]
    assert schema["properties"]["ports"]["x-kubernetes-list-map-keys"] == ["name"]
    port = schema["properties"]["ports"]["items"]["properties"]["port"]
    assert port == {"description": "A number or a name.", "x-kubernetes-int-or-string": True}
    assert schema["properties"]["limits"]["additionalProperties"] == {"x-kubernetes-int-or-string": True}
    assert schema["properties"]["main"]["description"] == "The one that matters."
    assert schema["properties"]["main"]["properties"]["port"] == port


def test_what_a_structural_schema_cannot_say_is_an_error_when_generating() -> None:
    class Vague(Model):
        value: int | list[int]

    with pytest.raises(UnsupportedSchemaError, match="one type"):
        structural(Vague)
