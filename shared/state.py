"""Checks transitions of state machines. A table holds the allowed next states of each state."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)
Table = Mapping[State, frozenset[State]]


class IllegalTransition(ValueError):
    """Reports that the table does not allow a transition."""


def transition(table: Table[State], current: State, new: State) -> State:
    """Returns `new` if the table allows the transition to it from `current`. Raises IllegalTransition if not."""
    if new not in table[current]:
        raise IllegalTransition(f"{current} → {new} is not a transition of {type(current).__name__}")
    return new
