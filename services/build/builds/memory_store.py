"""Stores apps and builds in memory, for tests."""

from collections.abc import Sequence

from services.build.builds.app import App
from services.build.builds.build import JUDGED, Build, Expired, event_of, noted_expiry
from services.build.builds.build_store import Change, Head
from services.build.builds.status_store import news
from shared.errors import Conflict, NotFound
from shared.models import Event


class MemoryBuildStore:
    """Implements `BuildStore` in memory. `events` holds what the stream would get, `statuses` the commit statuses to
    send."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.statuses: dict[str, str] = {}
        self._apps: dict[str, App] = {}
        self._builds: dict[str, Build] = {}
        self._places: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._heads: dict[str, dict[str, Head]] = {}
        self._judged: dict[tuple[str, str | None], str] = {}

    async def apps(self) -> list[App]:
        return sorted(self._apps.values(), key=lambda app: app.name)

    async def app(self, name: str) -> App:
        if name not in self._apps:
            raise NotFound(f"there is no app {name}")
        return self._apps[name]

    async def add_app(self, app: App) -> None:
        if app.name in self._apps:
            raise Conflict(f"there is an app {app.name} already")
        await self.put_app(app)

    async def put_app(self, app: App) -> None:
        self._apps[app.name] = app

    async def delete_app(self, name: str) -> None:
        self._apps.pop(name, None)
        self._heads.pop(name, None)

    async def next_number(self, app: str) -> int:
        self._numbers[app] = self._numbers.get(app, 0) + 1
        return self._numbers[app]

    async def add(self, build: Build, *, is_head: bool) -> None:
        self._builds[build.id] = build
        self._places[build.id] = len(self._places) + 1
        if is_head and build.branch is not None:
            self._heads.setdefault(build.app, {})[build.branch] = (build.commit, build.id)
        self.events.append(event_of(build))
        self._mark(None, build)

    async def update(self, build_id: str, change: Change) -> Build:
        before = await self.build(build_id)
        after = before if before.ended else change(before)
        self._builds[build_id] = after
        self._mark(before, after)
        if after.state is not before.state:
            self.events.append(event_of(after))
        if after.state in JUDGED and after.speaks_for is not None:
            self._judged[after.app, after.speaks_for] = after.id
        return after

    async def build(self, build_id: str) -> Build:
        if build_id not in self._builds:
            raise NotFound(f"there is no build {build_id}")
        return self._builds[build_id]

    async def builds(self, app: str | None, *, limit: int, before: int | None = None) -> list[tuple[int, Build]]:
        placed = [(self._places[each.id], each) for each in self._builds.values() if app in (None, each.app)]
        return [item for item in reversed(placed) if before is None or item[0] < before][:limit]

    async def place(self, build_id: str) -> int:
        await self.build(build_id)
        return self._places[build_id]

    async def note(self, build_id: str, expired: Expired) -> Build:
        self._builds[build_id] = noted_expiry(await self.build(build_id), expired)
        return self._builds[build_id]

    async def drop(self, builds: Sequence[Build]) -> None:
        for build in builds:
            self._builds.pop(build.id, None)

    async def unended(self) -> list[Build]:
        return [build for build in self._builds.values() if not build.ended]

    async def heads(self, app: str) -> dict[str, Head]:
        return dict(self._heads.get(app, {}))

    async def skip_head(self, app: str, branch: str, commit: str) -> None:
        self._heads.setdefault(app, {})[branch] = (commit, "")

    async def forget_head(self, app: str, branch: str) -> None:
        self._heads.get(app, {}).pop(branch, None)

    async def judged(self, app: str) -> set[str]:
        return {build_id for (name, branch), build_id in self._judged.items() if name == app and branch is not None}

    async def last_judged(self, app: str, branch: str) -> Build | None:
        build_id = self._judged.get((app, branch))
        return self._builds[build_id] if build_id else None

    def _mark(self, before: Build | None, after: Build) -> None:
        if (text := news(before, after)) is not None:
            self.statuses[after.id] = text
