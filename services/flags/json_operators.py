"""Replaces those operators of the evaluator's JsonLogic that compare values as Python does. The new ones compare as
JSON does: `true` is not the number 1, and as text it is `true`.
"""

from typing import Any

from openfeature.contrib.tools.flagd.core.targeting.targeting import OPERATORS

_ITS_OWN: dict[str, Any] = dict(OPERATORS)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    return bool(a == b)


def _equal(a: Any, b: Any) -> bool:
    """Returns the result of JavaScript's `a == b`. null equals only null, so a missing attribute does not equal 0."""
    return a is b if a is None or b is None else bool(_ITS_OWN["=="](None, a, b))


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else value


def _in(data: Any = None, needle: Any = None, haystack: Any = None, *_: Any) -> bool:
    if isinstance(haystack, list):
        return any(_same(needle, each) for each in haystack)
    return bool(_ITS_OWN["in"](data, _text(needle), haystack))


def _cat(data: Any = None, *parts: Any) -> Any:
    return _ITS_OWN["cat"](data, *map(_text, parts))


def use_json_operators() -> None:
    """Replaces, in the table of flagd's evaluator, the operators that compare values as Python does by others that
    compare as JSON does. May be repeated.
    """
    OPERATORS.update(
        {
            "==": lambda data=None, a=None, b=None, *_: _equal(a, b),
            "!=": lambda data=None, a=None, b=None, *_: not _equal(a, b),
            "===": lambda data=None, a=None, b=None, *_: _same(a, b),
            "!==": lambda data=None, a=None, b=None, *_: not _same(a, b),
            "in": _in,
            "cat": _cat,
        }
    )
