"""A change as a person reads it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.flags.diff import Difference, differences
from services.flags.flag import Change, Definition
from shared.models import Environment

SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
RULE = {"if": [{"var": "x"}, "on"]}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"defaultVariant": "off"}, [("defaultVariant", '"on"', '"off"')]),
        ({}, {"state": "DISABLED"}, [("state", '"ENABLED"', '"DISABLED"')]),
        ({}, {"variants": {"on": 1, "off": False}}, [("variants.on", "true", "1")]),
        ({}, {"variants": {"on": True}}, [("variants.off", "false", None)]),
        ({}, {"metadata": {"owner": "Ännchen"}}, [("metadata.owner", None, '"Ännchen"')]),
        ({}, {"targeting": {"var": "x"}}, [("targeting", None, '{"var": "x"}')]),
        ({"targeting": RULE}, {"targeting": {"if": [False, RULE]}}, [("rules", None, '"set aside"')]),
        ({}, {}, []),
    ],
)
def test_what_is_another_part_by_part(before: Any, after: Any, expected: list[tuple[str, str, str]]) -> None:
    definitions = [Definition.model_validate(SWITCH | given) for given in (before, after)]
    change = Change(
        key="k",
        environment=Environment.CANARY,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="ann",
        before=definitions[0],
        after=definitions[1],
    )
    assert differences(change) == [Difference(*each) for each in expected]
    made, gone = change.model_copy(update={"before": None}), change.model_copy(update={"after": None})
    assert {each.before for each in differences(made)} == {None}
    assert {each.after for each in differences(gone)} == {None}
    assert len(differences(gone)) >= 4
