"""Counts what Python does, where a test is to see how work grows: a count is the same on a busy machine."""

import sys
from collections.abc import Awaitable
from types import FrameType
from typing import Any


async def work_of(awaitable: Awaitable[Any]) -> int:
    """Awaits it, and returns the number of opcodes that were run meanwhile in Python functions of this thread."""
    opcodes = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal opcodes
        opcodes += event == "opcode"
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await awaitable
    finally:
        sys.settrace(before)
    return opcodes
