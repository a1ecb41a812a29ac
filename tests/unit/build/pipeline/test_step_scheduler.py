"""Steps begin in the order of their graph, a limited number at a time, and none begins after a failure."""

import asyncio
from typing import Any

import pytest

from services.build.gates.report_collection import Reported
from services.build.pipeline.step_runner import StepEnd
from services.build.pipeline.step_scheduler import run_steps
from shared.manifest import Step

pytestmark = pytest.mark.anyio


def step(name: str, stage: str = "build", **more: Any) -> Step:
    return Step.model_validate({"name": name, "stage": stage, "commands": ["true"], **more})


class Run:
    """Runs steps until the test ends each of them by hand."""

    def __init__(self, steps: list[Step], at_most: int) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self._ends: dict[str, asyncio.Future[str]] = {}
        self.task = asyncio.ensure_future(run_steps(steps, self._run, at_most))

    async def _run(self, step: Step) -> StepEnd:
        self.begun.append(step.name)
        self._ends[step.name] = asyncio.get_running_loop().create_future()
        try:
            return StepEnd(await self._ends[step.name], Reported(), None)
        except asyncio.CancelledError:
            self.cancelled.append(step.name)
            raise

    async def begins(self) -> list[str]:
        """Returns the names of the steps that have begun since the last call."""
        for _ in range(10):  # a few turns of the event loop, in which nothing waits for the outside
            await asyncio.sleep(0)
        begun, self.begun = self.begun, []
        return begun

    async def end(self, name: str, failure: str = "") -> list[str]:
        self._ends[name].set_result(failure)
        return await self.begins()

    async def breaks(self, name: str, error: Exception) -> list[str]:
        self._ends[name].set_exception(error)
        return await self.begins()


async def ended(run: Run) -> list[tuple[str, str]]:
    return [(step.name, end.failure) for step, end in await asyncio.wait_for(run.task, 5)]


async def test_what_may_begin_begins_in_order() -> None:
    run = Run([step("a"), step("b", depends_on=[]), step("c", depends_on=["b"]), step("d")], at_most=9)
    assert await run.begins() == ["a", "b"]
    assert await run.end("b") == ["c"]
    assert await run.end("a") == []
    assert await run.end("c") == ["d"]
    assert await run.end("d") == []
    assert await ended(run) == [("b", ""), ("a", ""), ("c", ""), ("d", "")]


async def test_no_more_run_at_a_time_than_allowed_and_the_first_of_the_manifest_goes_first() -> None:
    steps = [step("t", "test"), *(step(name, depends_on=[]) for name in "edcba")]
    run = Run(steps, at_most=2)
    assert await run.begins() == ["e", "d"]
    assert await run.end("d") == ["c"]
    assert await run.end("e") == ["b"]
    assert await run.end("b") == ["a"]
    assert await run.end("a") == []
    assert await run.end("c") == ["t"]
    await run.end("t")
    assert [name for name, _ in await ended(run)] == ["d", "e", "b", "a", "c", "t"]


async def test_after_a_failure_none_begins_and_what_runs_goes_on_to_its_end() -> None:
    run = Run([step(name, depends_on=[]) for name in "abc"], at_most=2)
    assert await run.begins() == ["a", "b"]
    assert await run.end("a", "exited with 1") == []
    assert not run.task.done()
    assert await run.end("b") == []
    assert (await ended(run), run.cancelled) == ([("a", "exited with 1"), ("b", "")], [])


async def test_an_error_of_one_cancels_the_others_and_is_raised_when_they_have_ended() -> None:
    run = Run([step(name, depends_on=[]) for name in "abc"], at_most=2)
    assert await run.begins() == ["a", "b"]
    assert await run.breaks("b", RuntimeError("no engine")) == []
    with pytest.raises(RuntimeError, match="no engine"):
        await run.task
    assert run.cancelled == ["a"]


async def test_no_steps_end_at_once() -> None:
    assert await ended(Run([], at_most=2)) == []
