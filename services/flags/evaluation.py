"""Evaluates flags by flagd's reference evaluator (`openfeature-flagd-core`)."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails
from pydantic import JsonValue

from services.flags.flag import Flag


class EvaluationError(Exception):
    """Raised when a flag cannot be evaluated; holds OFREP's errorCode and errorDetails."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    key: str
    value: JsonValue
    variant: str | None
    """None if the caller uses its own default: the flag is disabled, or has no default variant."""
    reason: str
    metadata: Mapping[str, bool | int | float | str] = field(default_factory=dict)


class FlagSet:
    """The flags of one environment, ready for evaluation. Immutable.

    `digest` is a hash of all definitions, equal in every instance of the service. `depends_on_time` is true if a
    targeting rule uses `$flagd.timestamp`: then the same context may get another value later.
    """

    def __init__(self, flags: Iterable[Flag]) -> None:
        self._core = FlagdCore()
        self._flags = {flag.key: flag for flag in sorted(flags, key=lambda flag: flag.key)}
        definitions = {key: flag.definition.model_dump(mode="json", by_alias=True) for key, flag in self._flags.items()}
        text = json.dumps({"flags": definitions})
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        self.depends_on_time = '"$flagd' in text
        self._core.set_flags(text)  # as a string: a dict is changed by the evaluator

    def flags(self) -> list[Flag]:
        """Returns the flags, last changed first."""
        return sorted(self._flags.values(), key=lambda flag: (flag.updated_at, flag.key), reverse=True)

    def get(self, key: str) -> Flag | None:
        return self._flags.get(key)

    def check_context(self, context: Mapping[str, Any]) -> str | None:
        """Returns the context's targeting key, or None without one. Raises EvaluationError if it is not a string."""
        targeting_key = context.get("targetingKey")
        if not isinstance(targeting_key, str | None):
            raise EvaluationError("INVALID_CONTEXT", "context.targetingKey must be a string")
        return targeting_key

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Evaluation:
        """Evaluates the flag. Raises EvaluationError: unknown flag, bad context, failing targeting rule."""
        flag = self._flags.get(key)
        if flag is None:
            raise EvaluationError("FLAG_NOT_FOUND", f"there is no flag {key}; GET /flags lists those there are")
        targeting_key = self.check_context(context)
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        resolve = self._resolver(flag)
        try:
            result = resolve(key, EvaluationContext(targeting_key, attributes))
        except FlagNotFoundError as error:
            raise EvaluationError("FLAG_NOT_FOUND", str(error.error_message)) from error
        except OpenFeatureError as error:
            raise EvaluationError(
                str(error.error_code), error.error_message or "the flag cannot be evaluated"
            ) from error
        except Exception as error:  # a rule is the user's program: division by zero, too deep, a type it cannot compare
            details = f"the flag's targeting failed on this context: {type(error).__name__}: {error}"
            raise EvaluationError("GENERAL", details) from error
        return Evaluation(key, result.value, result.variant, str(result.reason), result.flag_metadata)

    def _resolver(self, flag: Flag) -> Callable[[str, EvaluationContext], FlagResolutionDetails[Any]]:
        """Returns the evaluator's method for the type of the flag's variants (OFREP's request names no type). If one
        number among the variants has a fraction, all are evaluated as floats.
        """
        core, values = self._core, list(flag.definition.variants.values())
        if isinstance(values[0], bool):
            return lambda key, context: core.resolve_boolean_value(key, False, context)
        if isinstance(values[0], str):
            return lambda key, context: core.resolve_string_value(key, "", context)
        if any(isinstance(value, float) for value in values):
            return lambda key, context: core.resolve_float_value(key, 0.0, context)
        if isinstance(values[0], int):
            return lambda key, context: core.resolve_integer_value(key, 0, context)
        return lambda key, context: core.resolve_object_value(key, {}, context)
