"""Kept parts are read again after a change, also one during the reading."""

import asyncio
from collections.abc import Set

import pytest

from services.deployer import kept as kept_module
from services.deployer.kept import KeptParts

pytestmark = pytest.mark.anyio


class Stored:
    """Holds parts and counts what was read; each reading waits for `go_on`, and raises `error` if there is one."""

    def __init__(self, **parts: str) -> None:
        self.parts = dict(parts)
        self.read: list[list[str]] = []
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.kept = KeptParts(self._read_all, self._read)

    async def _read_all(self) -> dict[str, str]:
        return await self._read(frozenset(self.parts))

    async def _read(self, keys: Set[str]) -> dict[str, str]:
        self.read.append(sorted(keys))
        found = {key: self.parts[key] for key in keys & self.parts.keys()}
        await self.go_on.wait()
        if self.error:
            raise self.error
        return found


async def test_only_the_dropped_part_is_read_again() -> None:
    stored = Stored(a="1", b="1")
    assert [await stored.kept.get() for _ in range(2)] == [{"a": "1", "b": "1"}] * 2
    stored.parts["b"] = "2"
    stored.kept.drop("b")
    assert [await stored.kept.get() for _ in range(2)] == [{"a": "1", "b": "2"}] * 2
    assert stored.read == [["a", "b"], ["b"]]


async def test_a_part_that_is_gone_leaves_and_a_new_one_comes() -> None:
    stored = Stored(a="1")
    await stored.kept.get()
    stored.parts = {"b": "1"}
    stored.kept.drop("a")
    stored.kept.drop("b")
    assert await stored.kept.get() == {"b": "1"}


async def test_all_parts_are_read_again_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(a="1")
    await stored.kept.get()
    stored.parts["a"] = "2"  # by another process
    assert await stored.kept.get() == {"a": "1"}
    monkeypatch.setattr(kept_module, "KEPT_S", 0.0)
    assert await stored.kept.get() == {"a": "2"}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_change_during_the_reading_is_not_missed(is_first: bool) -> None:
    stored = Stored(a="1")
    if not is_first:
        await stored.kept.get()
        stored.kept.drop("a")
    stored.go_on.clear()
    reading = asyncio.create_task(stored.kept.get())
    await asyncio.sleep(0)
    stored.parts["a"] = "2"
    stored.kept.drop("a")
    stored.go_on.set()
    assert await reading == {"a": "1"}
    assert await stored.kept.get() == {"a": "2"}


async def test_callers_during_a_reading_wait_for_it() -> None:
    stored = Stored(a="1")
    assert list(await asyncio.gather(stored.kept.get(), stored.kept.get())) == [{"a": "1"}] * 2
    assert stored.read == [["a"]]


@pytest.mark.parametrize("is_first", [True, False])
async def test_after_an_error_the_parts_are_read_again(is_first: bool) -> None:
    stored = Stored(a="1")
    if not is_first:
        await stored.kept.get()
        stored.parts["a"] = "2"
        stored.kept.drop("a")
    stored.error = OSError("no")
    with pytest.raises(OSError, match="no"):
        await stored.kept.get()
    stored.error = None
    assert await stored.kept.get() == {"a": "1" if is_first else "2"}
