"""Checks transitions of state machines: a StrEnum of states and one table of allowed transitions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)
Table = Mapping[State, frozenset[State]]


class IllegalTransition(ValueError):
    """Raised if the table does not allow a transition."""


def transition(table: Table[State], current: State, new: State) -> State:
    """Returns `new` if the table allows it from `current`; else raises IllegalTransition."""
    if new not in table[current]:
        raise IllegalTransition(f"{current} → {new} is not a transition of {type(current).__name__}")
    return new
