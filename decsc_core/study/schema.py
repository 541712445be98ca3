"""What users describe in YAML, profiles and campaigns: read so that nothing is lost, and held against a JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

_Validator = extend(
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
)
"""In which 3.0 is no integer."""


class _Once(yaml.SafeLoader):
    """YAML in which no name stands twice; by itself YAML would take the last one."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge"]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} stands twice")
        return super().construct_mapping(node, deep)


def read(file: Path | str) -> Any:
    """What a YAML file holds.

    Raises
    ------
    ValueError
        If it is no YAML, or a name stands twice in one mapping; the message names the file.
    OSError
        If the file cannot be read.
    """
    try:
        return yaml.load(Path(file).read_text(), _Once)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError of what looks like a date
        raise ValueError(f"{file}: not YAML ({' '.join(str(error).split())})") from None


def check(value: Any, schema: dict) -> None:
    """Hold a value against a JSON schema.

    Raises
    ------
    ValueError
        If something in it is wrong; the message has the place of the most telling fault, what it is, and the
        `description` of that part of the schema.
    """
    if error := best_match(_Validator(schema).iter_errors(value)):
        place = ".".join(map(str, error.absolute_path))
        told = "; ".join(filter(None, [error.message, error.schema.get("description")]))
        raise ValueError(f"{place}: {told}" if place else told)


def section(required: dict[str, dict], optional: dict[str, dict] | None = None) -> dict:
    """The schema of a mapping with these keys and no others."""
    keys = required | (optional or {})
    return {
        "type": "object", "properties": keys, "required": list(required), "additionalProperties": False,
        "description": f"there are {', '.join(keys)}",
    }
