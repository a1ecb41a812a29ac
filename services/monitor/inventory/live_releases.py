"""Remembers which release is live in the production of each app, also across restarts of the monitor."""

import asyncio
import contextlib

from services.monitor.inventory.live_store import LiveStore
from shared.store import RedisError

FIRST_LOAD_S = 2.0


class LiveReleases:
    """Holds the live releases in memory, and writes changes to Redis later (`flush`), so that no change waits for
    Redis. After the stored releases are loaded, changes since the start of the process take precedence over them.
    """

    def __init__(self, store: LiveStore) -> None:
        self._store = store
        self._live: dict[str, str] = {}
        self._unsaved: set[str] = set()
        self._loaded = self._tried = False

    def apps(self) -> set[str]:
        return set(self._live)

    def get(self, app: str) -> str | None:
        return self._live.get(app)

    def set(self, app: str, release: str) -> None:
        if self._live.get(app) != release:
            self._live[app] = release
            self._unsaved.add(app)

    def forget(self, app: str) -> None:
        self._live.pop(app, None)
        self._unsaved.add(app)  # also what is stored and not loaded yet

    def end(self, release: str) -> None:
        """Records that the release is no longer live."""
        for app in [app for app, live in self._live.items() if live == release]:
            self.forget(app)

    async def load_if_possible(self) -> None:
        """Tries once, for at most 2 s, to load the stored releases. If that fails, `flush` loads them later."""
        if not self._tried:
            self._tried = True
            with contextlib.suppress(RedisError, TimeoutError):
                await asyncio.wait_for(self._load(), FIRST_LOAD_S)

    async def flush(self) -> None:
        """Stores the changes since the last call. Raises RedisError; the next call then stores them."""
        await self._load()
        unsaved, self._unsaved = self._unsaved, set()
        try:
            if unsaved:
                await self._store.save({app: self._live.get(app) for app in unsaved})
        except BaseException:
            self._unsaved |= unsaved
            raise

    async def is_stored(self, app: str) -> bool:
        """Returns True if Redis holds a live release of the app. If it does not although one was stored, Redis has lost
        its data. Raises RedisError.
        """
        return await self._store.holds(app)

    async def _load(self) -> None:
        if not self._loaded:
            stored = await self._store.load()
            self._live = {app: live for app, live in stored.items() if app not in self._unsaved} | self._live
            self._loaded = True
