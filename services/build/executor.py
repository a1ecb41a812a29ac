"""How steps are run: the port. `process_executor.py` runs them as processes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Stopped(Exception):
    """What was asked to stop has stopped; all that it started has ended."""


Output = Callable[[bytes], None]
Stop = asyncio.Event


@dataclass(frozen=True)
class Workspace:
    """Where one build works. `folder` is its checkout; `scratch` its HOME and TMPDIR, removed at its end."""

    build: str
    app: str
    commit: str
    branch: str | None
    number: int
    folder: Path
    scratch: Path


@dataclass(frozen=True)
class Order:
    """`commands` run one after the other in the workspace's folder, until one fails. `timeout_s` is for all."""

    commands: Sequence[str]
    timeout_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """`reason` is empty on success. `exit_code` is None when the step was ended from outside."""

    exit_code: int | None
    reason: str = ""


class Executor(Protocol):
    """`prepare` once, then `run` for each step, one at a time for each workspace.

    `output` is called with what is printed, as it comes. When `stop` is set, or the time is over, or the call is
    cancelled, everything that the step started is ended before the call returns; so it is after a normal end.
    """

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        """Makes what steps find in the folder beside the checkout."""
        ...

    async def run(self, workspace: Workspace, order: Order, output: Output, stop: Stop) -> Outcome:
        """A failing command is an Outcome, not an error."""
        ...

    async def end_leftovers(self, workspace: Workspace) -> int:
        """Ends what an earlier run of this workspace left, when the service was killed; says how many."""
        ...
