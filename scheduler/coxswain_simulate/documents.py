"""Documents in JSON or YAML, checked against a model, with the line of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from coxswain_simulate.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


class Document:
    """A file's text and what it says. Raises InputError for what cannot be read, or is neither JSON nor YAML."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text("utf-8")
            self.content: Any = self._parse()
        except OSError as error:
            raise InputError.at(path, None, f"cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError.at(path, 1, "is not UTF-8 text") from None
        except json.JSONDecodeError as error:
            raise InputError.at(path, error.lineno, f"is not JSON: {error.msg}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise InputError.at(path, line, f"is not YAML: {error.problem or error.context}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError.at(path, 1, f"cannot be parsed: {error}") from None
        if not isinstance(self.content, dict):
            raise InputError.at(path, 1, "holds no fields: expected names and values")

    def checked(self, model: type[Model]) -> Model:
        """The content as `model`. Raises InputError for the first field that does not fit."""
        try:
            return model.model_validate(self.content)
        except ValidationError as errors:
            first = errors.errors(include_url=False, include_context=False)[0]
            raise self.wrong(first["loc"], _told(first)) from None

    def wrong(self, field: tuple[int | str, ...], problem: str) -> InputError:
        """What is wrong with a field, with its line: that of the innermost part of it that is there."""
        return InputError.at(
            self.path, self._line(field), f"{'.'.join(map(str, field))}: {problem}" if field else problem
        )

    def _parse(self) -> Any:
        # JSON is parsed as such although it is YAML nearly always: "nearly" is about numbers such as 5e-05.
        if self._text.lstrip().startswith("{"):
            return json.loads(self._text, object_pairs_hook=_unrepeated)
        for name, line in _repeated(yaml.compose(self._text, Loader=yaml.SafeLoader)):
            raise InputError.at(self.path, line, f"{name} is there twice")
        return yaml.safe_load(self._text)

    def _line(self, field: tuple[int | str, ...]) -> int:
        node, line = yaml.compose(self._text.replace("\t", " "), Loader=yaml.SafeLoader), 1
        for step in field:
            inner = next((pair for pair in _children(node) if pair[0] == step), None)
            if inner is None:
                break
            _, line, node = inner
        return line


def _told(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return str(error["msg"]).removeprefix("Value error, ")


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def _repeated(root: yaml.Node | None) -> Iterator[tuple[int | str, int]]:
    """Names that are in their mapping already, with their lines.

    Each node is looked at once, though aliases may lead to it often, or in circles.
    """
    queue, known = [root], {id(root)}
    while queue:
        names: set[int | str] = set()
        for name, line, child in _children(queue.pop()):
            if name in names:
                yield name, line
            names.add(name)
            if id(child) not in known:
                known.add(id(child))
                queue.append(child)


def _children(node: yaml.Node | None) -> Iterator[tuple[int | str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), int(key.start_mark.line) + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, int(value.start_mark.line) + 1, value
