"""State machines as data: a StrEnum and one table of transitions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)
Table = Mapping[State, frozenset[State]]


class IllegalTransition(ValueError):
    """The table does not allow to go from one state to the other."""


def transition(table: Table[State], current: State, new: State) -> State:
    """`new`, if the table allows it from `current`; raises IllegalTransition if not."""
    if new not in table[current]:
        raise IllegalTransition(f"{current} → {new} is not a transition of {type(current).__name__}")
    return new
