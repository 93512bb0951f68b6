"""Writes the reference tables of docs/study-file.md from the models themselves; `--check` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hpo_service.domain.study.presets import PRESETS
from hpo_service.domain.study.search_space import CategoricalParameter, Parameter
from hpo_service.domain.studyfile.schema import study_schema

PAGE = Path(__file__).parent / "study-file.md"
BEGIN = "<!-- written by docs/study_file_reference.py: begin -->\n"
END = "<!-- written by docs/study_file_reference.py: end -->\n"
PARAMETER_KINDS = ("FloatParameter", "IntParameter", "CategoricalParameter")
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def reference() -> str:
    """Return every section as a table of key, values, default and meaning, then parameters and presets."""
    schema = study_schema()
    sections = [_section("", schema, schema)]
    for kind in PARAMETER_KINDS:
        definition = schema["$defs"][kind]
        name = definition["properties"]["type"]["const"]
        sections.append(
            f"### a parameter of type `{name}`\n\n{definition['description']}\n\n{_table(definition, schema)}"
        )
    return "\n".join([*sections, _presets()])


def _section(path: str, definition: dict[str, Any], schema: dict[str, Any]) -> str:
    title = f"`{path}`" if path else "The top of the file"
    text = f"### {title}\n\n{definition['description']}\n\n{_table(definition, schema)}"
    for name, field in definition["properties"].items():
        inner = _definition(field, schema)
        if inner is not None:
            text += "\n" + _section(f"{path}.{name}" if path else name, inner, schema)
    return text


def _definition(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    for branch in (field, *field.get("anyOf", ())):
        name = branch.get("$ref", "").rpartition("/")[2]
        if name:
            return dict(schema["$defs"][name])
    return None


def _table(definition: dict[str, Any], schema: dict[str, Any]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in definition["properties"].items():
        default = _default(field) if name not in definition.get("required", ()) else "*required*"
        values = "a section, see below" if _definition(field, schema) else _values(field)
        meaning = field.get("description", "May be left out where the other keys tell.")
        lines.append(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{name}`", values, default, meaning)) + " |"
        )
    return "\n".join(lines) + "\n"


def _default(field: dict[str, Any]) -> str:
    if "default" not in field or field["default"] in (None, {}, "") or isinstance(field["default"], dict):
        return ""
    return f"`{json.dumps(field['default'])}`" if not isinstance(field["default"], str) else f"`{field['default']}`"


def _values(field: dict[str, Any]) -> str:
    if "additionalProperties" in field:
        return "a mapping"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_values(branch) for branch in field["anyOf"] if branch != {"type": "null"}))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "array":
        return f"a list of {_values(field['items'])}"
    limits = [f"{word} {field[key]:g}" for key, word in LIMITS.items() if key in field]
    return ", ".join([TYPES.get(field["type"], "a mapping"), *limits])


def _presets() -> str:
    lines = ["### Presets", "", "| preset | parameters | why |", "|---|---|---|"]
    for name, preset in PRESETS.items():
        parameters = "<br>".join(f"`{key}` {_range(p)}" for key, p in preset.parameters.items()) or "none"
        lines.append(f"| `{name}` | {parameters} | {preset.reason} |")
    return "\n".join(lines) + "\n"


def _range(parameter: Parameter) -> str:
    if isinstance(parameter, CategoricalParameter):
        return ", ".join(str(choice) for choice in parameter.choices)
    return f"{parameter.low:g} to {parameter.high:g}" + (" (log)" if parameter.log else "")


def page(text: str) -> str:
    """Return the page with its reference replaced by the present one."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def main() -> int:
    """Rewrite the page, or with `--check` return 1 where it is out of date."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
