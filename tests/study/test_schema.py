"""study.schema: what users describe, held against a JSON schema."""

from __future__ import annotations

import pytest

from decsc_core.study import schema

PERSON = schema.section({"age": {"type": "integer", "minimum": 0}}, {"name": {"type": "string", "description": "give a word"}})


@pytest.mark.parametrize("value", [{"age": 3}, {"age": 0, "name": "x"}])
def test_what_fits_passes(value):
    schema.check(value, PERSON)


@pytest.mark.parametrize("value, told", [
    ({"age": -1}, "age: -1 is less than the minimum of 0"),
    ({"age": 3.0}, "age: 3.0 is not of type 'integer'"),
    ({"age": True}, "age: True is not of type 'integer'"),
    ({"age": 3, "name": 4}, "name: 4 is not of type 'string'; give a word"),
    ({}, "'age' is a required property; there are age, name"),
    ({"age": 3, "size": 1}, "Additional properties are not allowed ('size' was unexpected); there are age, name"),
    ([], "[] is not of type 'object'; there are age, name"),
])
def test_the_fault_is_told_with_its_place(value, told):
    with pytest.raises(ValueError) as error:
        schema.check(value, PERSON)
    assert str(error.value) == told


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "a: 2024-13-45", "a: {b: 1, b: 2}"])
def test_what_is_no_yaml_is_told_with_its_file(text, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ValueError) as error:
        schema.read(file)
    assert str(error.value).startswith(f"{file}: not YAML (") and "\n" not in str(error.value)
