"""The JSON schema by which editors help with a manifest."""

from collections.abc import Iterator
from typing import Any

from services.build.api.manifest import schema
from shared.manifest import Manifest


def fields(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        yield from part.get("properties", {}).items()
        for value in part.values():
            yield from fields(value)


def test_every_field_is_described_and_no_other_is_allowed() -> None:
    found = schema()
    assert found["$schema"].startswith("https://json-schema.org/")
    assert found["properties"].keys() == Manifest.model_fields.keys()
    assert [name for name, field in fields(found) if "description" not in field] == []
    assert all(
        part["additionalProperties"] is False for part in [found, *found["$defs"].values()] if "properties" in part
    )


def test_short_forms_are_allowed() -> None:
    """The schema allows the short forms that the platform reads: sizes as text, one branch without a list."""
    parts = schema()["$defs"]
    assert {"string", "integer"} == {each["type"] for each in parts["Resources"]["properties"]["memory"]["anyOf"]}
    assert {"string", "array"} == {each["type"] for each in parts["When"]["properties"]["branch"]["anyOf"]}
