"""Validates a targeting rule (JsonLogic with flagd's operators): its form, its weights, and that its results are
variants.
"""

import math
from collections.abc import Collection, Iterator

from openfeature.contrib.tools.flagd.core.targeting.custom_ops import MAX_WEIGHT_SUM, normalize_version
from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS
from pydantic import JsonValue

MAX_DEPTH = 32
# JsonLogic's operators that the evaluator handles outside its table; `log` would print to this service's log.
KNOWN_OPERATORS = (OPERATORS.keys() | {"if", "?:", "and", "or", "filter", "reduce", "map", "all", "some", "none"}) - {
    "log"
}
ARGUMENTS = {"sem_ver": 3, "starts_with": 2, "ends_with": 2}
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "^", "~")
INITIAL_VALUE = 2  # position in `reduce` of the only argument that is not evaluated, so it may be any object

Faults = Iterator[tuple[str, str]]


def rule_faults(rule: JsonValue, path: str, variants: Collection[str]) -> Faults:
    """Yields (path, fault with remedy) for each part of the targeting rule on which the evaluator would fail, or which
    it would silently treat as a constant, such as an unknown operator.
    """
    if rule == {}:
        return
    yield from _shape_faults(rule, path, 0)
    for where, result in _results(rule, path, 0):
        name = str(result).lower() if isinstance(result, bool) else str(result)
        if result is not None and name not in variants:
            yield where, f"{name!r} is no variant; use one of {', '.join(variants)}, or null for the default"


def _arguments(arguments: JsonValue) -> list[JsonValue]:
    return arguments if isinstance(arguments, list) else [arguments]


def _shape_faults(rule: JsonValue, path: str, depth: int) -> Faults:
    if depth > MAX_DEPTH:
        yield path, f"the rule is nested deeper than {MAX_DEPTH}; split it"
    elif isinstance(rule, list):
        for index, part in enumerate(rule):
            yield from _shape_faults(part, f"{path}.{index}", depth + 1)
    elif isinstance(rule, dict):
        if len(rule) != 1:
            yield path, "a rule is an object with exactly one operator; combine several with `and`"
        for operator, arguments in rule.items():
            if len(rule) == 1:
                yield from _operator_faults(operator, arguments, f"{path}.{operator}")
            if operator == "reduce" and isinstance(arguments, list):
                arguments = arguments[:INITIAL_VALUE]
            yield from _shape_faults(arguments, f"{path}.{operator}", depth + 1)
    elif isinstance(rule, float) and not math.isfinite(rule):
        yield path, "NaN and Infinity are no JSON; use a finite number"


def _operator_faults(operator: str, arguments: JsonValue, path: str) -> Faults:
    given = _arguments(arguments)
    if operator not in KNOWN_OPERATORS:
        yield path, "no operator of JsonLogic or flagd; check the spelling"
    elif operator in ARGUMENTS and len(given) != ARGUMENTS[operator]:
        yield path, f"takes {ARGUMENTS[operator]} arguments, not {len(given)}"
    elif operator == "sem_ver":
        yield from _version_faults(given, path)
    elif operator == "fractional":
        yield from _weight_faults(given, path)


def _version_faults(given: list[JsonValue], path: str) -> Faults:
    if isinstance(given[1], str) and given[1] not in COMPARISONS:
        yield f"{path}.1", f"{given[1]!r} compares no versions; use one of {' '.join(COMPARISONS)}"
    for index in (0, 2):
        if isinstance(version := given[index], str):
            try:
                normalize_version(version)
            except ValueError:
                yield f"{path}.{index}", f"{version!r} is no semantic version; write it like 2.0.0"


def _weight_faults(given: list[JsonValue], path: str) -> Faults:
    """Yields (path, fault with remedy) for the arguments of `fractional` because of which the evaluator would serve no
    variant.
    """
    first = 0 if isinstance(given[0] if given else [], list) else 1  # otherwise the first argument selects the part
    total, is_known, is_well = 0, True, True
    for index, part in enumerate(given[first:], first):
        where = f"{path}.{index}"
        if not isinstance(part, list) or not 1 <= len(part) <= 2:
            is_well = False
            yield where, "a part of `fractional` is [variant] or [variant, weight]"
            continue
        weight = part[1] if len(part) == 2 else 1
        if isinstance(weight, dict):
            is_known = False
        elif isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            is_well = False
            yield f"{where}.1", f"{weight!r} is no weight; weights are whole numbers of 0 and more"
        else:
            total += weight
    if is_known and is_well and not 0 < total <= MAX_WEIGHT_SUM:
        yield path, f"the weights add up to {total}; the sum must be from 1 to {MAX_WEIGHT_SUM}"


def _results(rule: JsonValue, path: str, depth: int) -> Iterator[tuple[str, JsonValue]]:
    """Yields (path, constant) for each constant that can be the result of the rule."""
    if depth > MAX_DEPTH:
        return
    if not isinstance(rule, dict):
        yield path, rule
        return
    for operator, arguments in rule.items():
        for index, part in _result_parts(operator, _arguments(arguments)):
            below = f"{path}.{operator}.{index}" if isinstance(arguments, list) else f"{path}.{operator}"
            yield from _results(part, below, depth + 1)


def _result_parts(operator: str, given: list[JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """Yields (index, argument) for each argument of the operator whose value can become the operator's result."""
    for index, part in enumerate(given):
        is_last = index == len(given) - 1
        is_branch = operator in ("if", "?:") and (index % 2 == 1 or is_last)
        if is_branch or (operator in ("and", "or") and is_last):
            yield str(index), part
        elif operator == "fractional" and isinstance(part, list) and part:
            yield f"{index}.0", part[0]
