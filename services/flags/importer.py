"""Imports flagd files in a thread, because reading and storing thousands of flags takes seconds."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Literal

from services.flags.change import FlagId, Flags, Wanted, changes_of
from services.flags.flag import Change, Definition
from services.flags.import_export import Mode, parse, wanted
from services.flags.store import FlagStore
from shared.models import Environment, View

Stores = Callable[[], AbstractAsyncContextManager[FlagStore]]


class ImportedView(View):
    """Describes one flag that the import changed, or would change in a dry run."""

    key: str
    environment: Environment
    what: Literal["made", "changed", "deleted"]
    before: Definition | None
    after: Definition | None


class ImportView(View):
    """Response body of `POST /import`. `unchanged` is the number of flags of the file that already had the same
    definition.
    """

    dry_run: bool
    mode: Mode
    at: datetime
    unchanged: int
    items: list[ImportedView]


class Importer:
    """Imports one file at a time, in a thread with an event loop of its own, so that evaluations continue."""

    def __init__(self, stores: Stores) -> None:
        """Creates an importer. For each import, `stores` creates a flag store whose connection to Redis nothing else
        uses.
        """
        self._stores = stores
        self._turn = asyncio.Lock()

    async def run(
        self, file: Mapping[str, Any], environment: Environment, *, mode: Mode, dry_run: bool, actor: str, at: datetime
    ) -> str:
        """Imports the parsed `file`, for `environment` if it names none; returns an ImportView as JSON. With the mode
        `replace`, deletes flags that the file does not name; with `merge`, keeps them. A dry run writes nothing. Raises
        RedisError, and a Problem (422) that lists every fault of the file.
        """

        def run() -> str:
            with _no_collections():
                return asyncio.run(self._import(file, environment, mode, dry_run, actor, at))

        async with self._turn:
            return await asyncio.to_thread(run)

    async def _import(
        self, file: Mapping[str, Any], environment: Environment, mode: Mode, dry_run: bool, actor: str, at: datetime
    ) -> str:
        parsed = parse(file, environment)

        def decide(flags: Flags) -> Wanted:
            return wanted(parsed, flags, mode)

        async with self._stores() as store:
            if dry_run:
                _, stored = await store.load()
                flags = {FlagId(flag.environment, flag.key): flag for flag in stored}
                changes = changes_of(flags, decide(flags), actor, at)
            else:
                changes = await store.change(None, decide, actor=actor, at=at)
        touched = {FlagId(change.environment, change.key) for change in changes}
        unchanged = len(parsed.definitions.keys() - touched)
        items = [_imported(change) for change in changes]
        view = ImportView(dry_run=dry_run, mode=mode, at=at, unchanged=unchanged, items=items)
        return view.model_dump_json(by_alias=True)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Disables Python's garbage collection within the block. With the objects of a large import, one collection would
    stop all threads for 0.3 s.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _imported(change: Change) -> ImportedView:
    given = change.model_dump(exclude={"at", "actor", "before", "after"})
    return ImportedView(**given, what=change.kind, before=change.before, after=change.after)
