"""Flag and context → value: OpenFeature's reasons, and what a rule may stumble over."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from services.flags.evaluation import EvaluationError, FlagEvaluator, evaluation_context
from services.flags.flag import Definition, Flag
from shared.models import Environment

AT = datetime(2026, 1, 1, tzinfo=UTC)


def evaluator(**changes: Any) -> FlagEvaluator:
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"} | changes
    definition = Definition.model_validate(given)
    return FlagEvaluator(Flag(key="k", environment=Environment.PRODUCTION, definition=definition, updated_at=AT))


RULE = {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on"]}


@pytest.mark.parametrize(
    ("changes", "context", "value", "variant", "reason"),
    [
        ({}, {}, False, "off", "STATIC"),
        ({"targeting": RULE}, {"email": "a@example.com"}, True, "on", "TARGETING_MATCH"),
        ({"targeting": RULE}, {"email": "a@else.org"}, False, "off", "DEFAULT"),
        ({"targeting": RULE}, {}, False, "off", "DEFAULT"),
        (
            {"targeting": {"fractional": [["on", 100], ["off", 0]]}},
            {"targetingKey": "a"},
            True,
            "on",
            "TARGETING_MATCH",
        ),
        ({"targeting": {"fractional": [["on", 1]]}}, {}, False, "off", "DEFAULT"),
        ({"targeting": {"if": [True, {"var": "x"}]}}, {"x": "on"}, True, "on", "TARGETING_MATCH"),
        ({"state": "DISABLED"}, {}, False, None, "DISABLED"),
        ({"defaultVariant": None}, {}, False, None, "DEFAULT"),
        ({"variants": {"off": "blue"}}, {}, "blue", "off", "STATIC"),
        ({"variants": {"off": 1}}, {}, 1, "off", "STATIC"),
        ({"variants": {"off": 1, "on": 2.5}}, {}, 1.0, "off", "STATIC"),
        ({"variants": {"off": {"a": 1}}}, {}, {"a": 1}, "off", "STATIC"),
        ({"variants": {"off": [1, 2]}}, {}, [1, 2], "off", "STATIC"),
    ],
)
def test_values_and_reasons(
    changes: dict[str, Any], context: dict[str, Any], value: JsonValue, variant: str | None, reason: str
) -> None:
    flag = evaluator(**changes)
    evaluation = flag.evaluate(evaluation_context(context))
    assert (evaluation.value, evaluation.variant, evaluation.reason) == (value, variant, reason)
    if flag.constant is not None:
        assert json.loads(flag.constant) == evaluation.body()
    assert (flag.constant is None) == ("targeting" in changes)
    assert type(evaluation.value) is type(value)  # a float flag's 1 is 1.0, else a typed client takes it for an error


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        ({"===": [{"var": "x"}, 1]}, True, False),
        ({"===": [{"var": "x"}, 1]}, 1.0, True),
        ({"===": [{"var": "x"}, True]}, True, True),
        ({"===": [{"var": "x.0"}, {"var": "x.1"}]}, [[1, {"a": 0}], [1, {"a": False}]], False),
        ({"===": [{"var": "x.0"}, {"var": "x.1"}]}, [[1, {"a": 0}], [1, {"a": 0}]], True),
        ({"!==": [{"var": "x"}, 0]}, False, True),
        ({"in": [{"var": "x"}, [0, 1]]}, True, False),
        ({"in": [{"var": "x"}, [0, 1]]}, 1, True),
        ({"in": [{"var": "x"}, "is true"]}, True, True),
        ({"==": [{"cat": ["is ", {"var": "x"}]}, "is true"]}, True, True),
        ({"==": [{"var": "x"}, 0]}, None, False),
        ({"!=": [{"var": "x"}, 0]}, None, True),
        ({"==": [{"var": "x"}, None]}, None, True),
        ({"==": [{"var": "x"}, 1]}, True, True),  # JsonLogic's `==` converts, as JavaScript's does
        ({"==": [{"var": "x"}, 1]}, "1", True),
    ],
)
def test_values_compare_as_jsons_do(condition: dict[str, Any], value: JsonValue, holds: bool) -> None:
    flag = evaluator(targeting={"if": [condition, "on", "off"]})
    assert flag.evaluate(evaluation_context({"x": value})).value is holds


def deep(levels: int) -> dict[str, Any]:
    context: dict[str, Any] = {}
    for _ in range(levels):
        context = {"x": context}
    return context


@pytest.mark.parametrize(
    ("targeting", "context", "code"),
    [
        ({"/": [1, 0]}, {}, "GENERAL"),
        ({"%": [1, {"var": "zero"}]}, {"zero": 0}, "GENERAL"),
        ({"cat": [{"var": "x"}]}, {"x": deep(100_000)}, "GENERAL"),
        ({"<": [{"var": "x"}, {"a": 1, "b": 2}]}, {"x": "1"}, "GENERAL"),
        ({"if": [True, "no such variant"]}, {}, "GENERAL"),
        (None, {"targetingKey": 7}, "INVALID_CONTEXT"),
    ],
)
def test_what_a_rule_stumbles_over_is_an_error_of_the_call_not_of_the_service(
    targeting: dict[str, Any] | None, context: dict[str, Any], code: str
) -> None:
    with pytest.raises(EvaluationError) as raised:
        evaluator(targeting=targeting).evaluate(evaluation_context(context))
    assert raised.value.code == code
    assert raised.value.details


def test_an_evaluation_leaves_the_definition_as_it_was() -> None:
    flag = evaluator(targeting=RULE, metadata={"owner": "ann"})
    before = flag.flag.model_dump()
    assert flag.evaluate(evaluation_context({})).metadata == {"owner": "ann"}
    assert flag.flag.model_dump() == before


def test_a_share_of_visitors_stays_in_its_bucket() -> None:
    flag = evaluator(targeting={"fractional": [["on", 25], ["off", 75]]})
    visitors = [evaluation_context({"targetingKey": f"visitor-{n}"}) for n in range(1000)]
    first = [flag.evaluate(visitor).value for visitor in visitors]
    assert first == [flag.evaluate(visitor).value for visitor in visitors]
    assert 200 < sum(map(bool, first)) < 300


@pytest.mark.parametrize("targeting", [None, {}, RULE, {"<": [{"var": "$flagd.timestamp"}, 1]}])
def test_only_a_rule_that_names_the_time_depends_on_it(targeting: dict[str, Any] | None) -> None:
    assert evaluator(targeting=targeting).depends_on_time == (bool(targeting) and "<" in str(targeting))
