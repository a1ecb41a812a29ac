"""Finds processes by a variable in their environment, in any process group or session."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Container

import psutil

LOOK_AGAIN_S = 0.01


def marked_pids(name: str, value: str) -> list[int]:
    """Returns the pids of living processes that were started with `name=value` in their environment; processes of other
    users are not found. Blocks for about 30 ms. If none is found, reads all processes once more, because a process that
    is just starting may have no environment yet or be missing in the list.
    """
    found = _look(name, value)
    if not found:
        time.sleep(LOOK_AGAIN_S)
        found = _look(name, value)
    return found


def pids_by_value(name: str, wanted: Container[str] | None = None) -> dict[str, list[int]]:
    """Returns value → pids of the living processes that were started with `name=value` in their environment; with
    `wanted`, only for these values. Reads all processes once, which for many values is cheaper than a search for each.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(name)
            if value is None or (wanted is not None and value not in wanted):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found[value].append(process.pid)
    return found


def _look(name: str, value: str) -> list[int]:
    return pids_by_value(name, {value}).get(value, [])
