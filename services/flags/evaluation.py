"""Evaluates flags by flagd's reference evaluator (`openfeature-flagd-core`)."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails
from pydantic import JsonValue
from pydantic_core import to_json

from services.flags.flag import Flag
from services.flags.json_operators import use_json_operators

Resolve = Callable[[str, EvaluationContext], FlagResolutionDetails[Any]]


class EvaluationError(Exception):
    """Reports that a flag cannot be evaluated; holds OFREP's errorCode and errorDetails."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details

    def body(self, key: str | None) -> dict[str, Any]:
        """Returns OFREP's error body with the flag's key. `key` is None if the error concerns a request for all
        flags.
        """
        error = {"errorCode": self.code, "errorDetails": self.details}
        return error if key is None else {"key": key} | error


@dataclass(frozen=True)
class Evaluation:
    """Holds the result of evaluating one flag."""

    key: str
    value: JsonValue
    variant: str | None
    """None if the caller uses its own default: the flag is disabled, or has no default variant."""
    reason: str
    metadata: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Returns OFREP's success body. It always contains `variant`, because OpenFeature's Python provider fails
        without it.
        """
        body = {"key": self.key, "variant": self.variant, "reason": self.reason, "metadata": dict(self.metadata)}
        return body if self.variant is None else body | {"value": self.value}


def as_json(body: Any) -> str:
    """Returns a response body as compact JSON text."""
    return to_json(body).decode()


def evaluation_context(context: Mapping[str, Any]) -> EvaluationContext:
    """Returns OFREP's `context` in the form that the evaluator needs. Raises EvaluationError if the targeting key is
    not a string.
    """
    targeting_key = context.get("targetingKey")
    if not isinstance(targeting_key, str | None):
        raise EvaluationError("INVALID_CONTEXT", "context.targetingKey must be a string")
    return EvaluationContext(targeting_key, {name: value for name, value in context.items() if name != "targetingKey"})


class FlagEvaluator:
    """Evaluates one flag. Immutable. Each flag has an evaluator of its own, because flagd's evaluator reads all of its
    flags again whenever one of them changes.
    """

    def __init__(self, flag: Flag, text: str = "") -> None:
        """Prepares the flag for evaluation. `text` is the flag's JSON in the store, by which the cache detects a
        change; evaluation does not need it.
        """
        self.flag = flag
        self.text = text
        definition = flag.definition.model_dump_json(by_alias=True)
        self.fingerprint = int.from_bytes(hashlib.sha256(f"{flag.key}:{definition}".encode()).digest())
        """Hash of key and definition, 256 bits."""
        self.depends_on_time = '"$flagd' in definition
        """True if a targeting rule uses `$flagd.timestamp`: the same context may get another value later."""
        use_json_operators()
        core = FlagdCore()
        core.set_flags(f'{{"flags":{{{json.dumps(flag.key)}:{definition}}}}}')  # as text: it would change a dict
        self._resolve = _resolver(core, flag)
        self._result: Evaluation | None = None
        self.constant: str | None = None
        """OFREP's body as JSON if it is the same for every context, else None."""
        if not flag.definition.targeting or flag.definition.state == "DISABLED":
            with contextlib.suppress(EvaluationError):
                self._result = self.evaluate(EvaluationContext())
                self.constant = as_json(self._result.body())

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        """Evaluates the flag. Raises EvaluationError if its targeting rule fails on the context."""
        if self._result:
            return self._result
        key = self.flag.key
        try:
            result = self._resolve(key, context)
        except FlagNotFoundError as error:
            raise EvaluationError("FLAG_NOT_FOUND", str(error.error_message)) from error
        except OpenFeatureError as error:
            raise EvaluationError(
                str(error.error_code), error.error_message or "the flag cannot be evaluated"
            ) from error
        except Exception as error:  # a rule may raise anything: division by zero, too deep, wrong type
            details = f"the flag's targeting failed on this context: {type(error).__name__}: {error}"
            raise EvaluationError("GENERAL", details) from error
        return Evaluation(key, result.value, result.variant, str(result.reason), result.flag_metadata)


def _resolver(core: FlagdCore, flag: Flag) -> Resolve:
    """Returns the evaluator's method for the type of the flag's variants, because OFREP's request names no type. If one
    of several numbers has a fraction, all are evaluated as floats.
    """
    values = list(flag.definition.variants.values())
    if isinstance(values[0], bool):
        return lambda key, context: core.resolve_boolean_value(key, False, context)
    if isinstance(values[0], str):
        return lambda key, context: core.resolve_string_value(key, "", context)
    if any(isinstance(value, float) for value in values):
        return lambda key, context: core.resolve_float_value(key, 0.0, context)
    if isinstance(values[0], int):
        return lambda key, context: core.resolve_integer_value(key, 0, context)
    return lambda key, context: core.resolve_object_value(key, {}, context)
