"""`python -m coxswain_crds.generate [--check]`: write the CustomResourceDefinitions, or name those out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from coxswain_crds import definitions
from coxswain_crds.structural import Schema

HEADER = "# Generated from crds/coxswain_crds by `make generate`; do not edit.\n"
REPOSITORY = Path(__file__).parents[2]
MANIFESTS = REPOSITORY / "crds" / "manifests"
CHART = REPOSITORY / "helm" / "coxswain" / "templates" / "crds"


class _Plain(yaml.SafeDumper):
    """Writes a shared value out each time: anchors are YAML too, but nobody expects them in a manifest."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def documents() -> dict[str, str]:
    """File name → YAML of every CustomResourceDefinition."""
    made = [definitions.llm_services(), definitions.accelerator_classes()]
    return {f"{definition['spec']['names']['plural']}.yaml": _yaml(definition) for definition in made}


def chart_documents() -> dict[str, str]:
    """The same as templates of the chart, so that `helm upgrade` upgrades them (it never touches a chart's crds/)."""
    return {name: f"{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n" for name, text in documents().items()}


def _yaml(definition: Schema) -> str:
    return HEADER + yaml.dump(definition, Dumper=_Plain, sort_keys=True, width=118, allow_unicode=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when `--check` finds a file that is not what the models say."""
    parser = argparse.ArgumentParser(prog="python -m coxswain_crds.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    parser.add_argument("--out", type=Path, default=MANIFESTS, help="folder of the manifests (default: %(default)s)")
    parser.add_argument("--chart", type=Path, default=CHART, help="folder of the chart's copies (default: %(default)s)")
    options = parser.parse_args(arguments)
    wanted = {options.out / name: text for name, text in documents().items()}
    wanted |= {options.chart / name: text for name, text in chart_documents().items()}
    stale = {path: text for path, text in wanted.items() if _differs(path, text)}
    for path, text in stale.items():
        print(f"{'out of date' if options.check else 'written'}: {path}")
        if not options.check:
            _write(path, text)
    if options.check and stale:
        print("run `make generate`", file=sys.stderr)
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
