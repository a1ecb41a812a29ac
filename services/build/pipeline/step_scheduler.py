"""Runs steps in the order of their dependency graph; independent steps run in parallel."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from graphlib import TopologicalSorter

from services.build.manifest.step_graph import in_order, waits_for
from services.build.pipeline.step_runner import StepEnd
from shared.manifest import Step


async def run_steps(
    steps: Sequence[Step], run: Callable[[Step], Awaitable[StepEnd]], at_most: int
) -> list[tuple[Step, StepEnd]]:
    """Runs the steps, at most `at_most` at a time; returns them with their results, in the order in which they ended.
    After a failure no further step begins, but running ones go on to their end. If `run` raises an exception, the
    running steps are cancelled, and once they have ended the exception is raised.
    """
    graph = TopologicalSorter(waits_for(steps))
    graph.prepare()
    ready: set[str] = set()
    running: dict[asyncio.Future[StepEnd], Step] = {}
    ended: list[tuple[Step, StepEnd]] = []
    try:
        while True:
            ready.update(graph.get_ready())
            if not any(end.failure for _, end in ended):
                for step in [step for step in in_order(steps) if step.name in ready][: at_most - len(running)]:
                    ready.remove(step.name)
                    running[asyncio.ensure_future(run(step))] = step
            if not running:
                return ended
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in [each for each in running if each.done()]:
                ended.append((running[each], each.result()))
                graph.done(running.pop(each).name)
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
