"""Housekeeping removes artifacts that no release needs from the disk, and never those that one needs."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.reconciler import Housekeeping
from services.deployer.releases.environment import EnvironmentId
from services.deployer.releases.release import Release
from services.deployer.store import Store
from shared.models import Artifact, Environment, ReleaseState
from tests.support.deployer.fakes import FakeDriver, a_release, an_instance

pytestmark = pytest.mark.anyio
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)


def on_disk(root: Path, number: int, state: ReleaseState) -> Release:
    folder = root / f"notes-{number}"
    folder.mkdir()
    (folder / "app.py").touch()
    artifact = Artifact(kind="directory", ref=str(folder), digest=f"sha256:{number}")
    return a_release(number, state, artifact=artifact)


def a_housekeeping(store: Store, home: Path, driver: FakeDriver, **kept: int) -> Housekeeping:
    return Housekeeping(store, driver, defaultdict(asyncio.Lock), home, **kept)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_only_what_no_release_needs_is_removed(tmp_path: Path, store: Store) -> None:
    (tmp_path / "notes-99").mkdir()  # of a build that was never released
    releases = [on_disk(tmp_path, number, ReleaseState.RETIRED) for number in (1, 2, 3)]
    releases.append(on_disk(tmp_path, 4, ReleaseState.LIVE))
    still_running = an_instance(releases[1], 1)
    commit = Commit({each.id: each for each in releases}, {still_running.id: still_running})
    await store.commit(PRODUCTION, commit)
    housekeeping = Housekeeping(
        store, FakeDriver(), defaultdict(asyncio.Lock), tmp_path, releases_kept=2, records_kept=10
    )
    for _ in range(2):
        await housekeeping.step()
        assert names(tmp_path) == ["notes-2", "notes-3", "notes-4", "notes-99"]


async def test_records_of_releases_beyond_the_newest_are_deleted_after_their_artifacts(
    tmp_path: Path, store: Store
) -> None:
    releases = [on_disk(tmp_path, number, ReleaseState.RETIRED) for number in range(1, 15)]
    releases.append(on_disk(tmp_path, 15, ReleaseState.LIVE))
    await store.commit(PRODUCTION, Commit({each.id: each for each in releases}))
    await Housekeeping(
        store, FakeDriver(), defaultdict(asyncio.Lock), tmp_path, releases_kept=2, records_kept=10
    ).step()
    assert [release.number for release in await store.releases(PRODUCTION)] == list(range(15, 5, -1))
    assert names(tmp_path) == ["notes-14", "notes-15"]


async def test_a_removal_that_was_cut_off_is_completed(tmp_path: Path, store: Store) -> None:
    releases = [on_disk(tmp_path, 1, ReleaseState.RETIRED), on_disk(tmp_path, 2, ReleaseState.LIVE)]
    (tmp_path / "notes-1").rename(tmp_path / ".removed-notes-1")
    await store.commit(PRODUCTION, Commit({each.id: each for each in releases}))
    await Housekeeping(
        store, FakeDriver(), defaultdict(asyncio.Lock), tmp_path, releases_kept=1, records_kept=10
    ).step()
    assert names(tmp_path) == ["notes-2"]


@pytest.mark.parametrize("slow", list(Environment))
async def test_a_slow_environment_holds_up_nothing_and_keeps_its_artifacts_until_it_is_well(
    store: Store, tmp_path: Path, slow: Environment
) -> None:
    releases = [on_disk(tmp_path, 1, ReleaseState.RETIRED), on_disk(tmp_path, 2, ReleaseState.LIVE)]
    await store.commit(PRODUCTION, Commit({each.id: each for each in releases}))
    locks: defaultdict[EnvironmentId, asyncio.Lock] = defaultdict(asyncio.Lock)
    driver = FakeDriver()
    housekeeping = Housekeeping(store, driver, locks, tmp_path, releases_kept=1, records_kept=10)
    async with asyncio.timeout(5):
        async with locks[EnvironmentId("notes", slow)]:
            await housekeeping.step()
            assert [lock.locked() for lock in locks.values()].count(True) == 1
        assert (driver.needed, names(tmp_path)) == ([releases[1].artifact], ["notes-1", "notes-2"])
        await housekeeping.step()
    assert names(tmp_path) == ["notes-2"]


async def test_the_engine_is_told_what_any_environment_of_any_app_needs(store: Store, tmp_path: Path) -> None:
    canary, other = EnvironmentId("notes", Environment.CANARY), EnvironmentId("web", Environment.PRODUCTION)
    releases = {
        PRODUCTION: [image(4, ReleaseState.LIVE), image(3, ReleaseState.RETIRED), image(2, ReleaseState.RETIRED)],
        canary: [image(5, ReleaseState.STARTING, environment=Environment.CANARY)],
        other: [image(6, ReleaseState.LIVE, app="web"), image(1, ReleaseState.FAILED, app="web", live_at=None)],
    }
    driver = FakeDriver()
    for environment_id, of_place in releases.items():
        await store.commit(environment_id, Commit({each.id: each for each in of_place}))
    await a_housekeeping(store, tmp_path, driver, releases_kept=2, records_kept=10).step()
    assert sorted(artifact.digest for artifact in driver.needed) == [f"sha256:{number}" for number in (1, 3, 4, 5, 6)]


class CountingStore(Store):
    """Counts how often the releases of an environment are read."""

    def __init__(self, store: Store) -> None:
        self.__dict__ |= vars(store)
        self.read: list[str] = []

    async def releases(
        self, environment_id: EnvironmentId, *, before: int | None = None, limit: int | None = None
    ) -> list[Release]:
        self.read.append(str(environment_id))
        return await super().releases(environment_id, before=before, limit=limit)


async def test_releases_are_read_only_after_they_have_changed(store: Store, tmp_path: Path) -> None:
    counting, driver = CountingStore(store), FakeDriver()
    other = EnvironmentId("web", Environment.PRODUCTION)
    old, new = on_disk(tmp_path, 1, ReleaseState.RETIRED), on_disk(tmp_path, 2, ReleaseState.LIVE)
    await counting.commit(PRODUCTION, Commit({old.id: old}))
    await counting.commit(other, Commit({"web-r1": image(3, ReleaseState.LIVE, id="web-r1", app="web")}))
    housekeeping = a_housekeeping(counting, tmp_path, driver, releases_kept=1, records_kept=10)
    await housekeeping.step()
    assert counting.read == ["notes/production", "notes/canary", "web/production", "web/canary"]
    needed = driver.needed
    counting.read.clear()
    await housekeeping.step()
    assert (counting.read, driver.needed) == ([], needed)
    await counting.commit(PRODUCTION, Commit({new.id: new}))
    await housekeeping.step()
    assert counting.read == ["notes/production", "notes/canary"]
    assert ([each.digest for each in driver.needed], names(tmp_path)) == (["sha256:2", "sha256:3"], ["notes-2"])


def image(number: int, state: ReleaseState, **changes: Any) -> Release:
    return a_release(
        number, state, artifact=Artifact(kind="image", ref=f"notes:{number}", digest=f"sha256:{number}"), **changes
    )


async def test_plain_text_of_an_older_version_is_encrypted_once(store: Store, redis: Redis, tmp_path: Path) -> None:
    key = "deployer:override:notes:production"
    await redis.set(key, '{"replicas":2,"memory":null,"variables":{"GREETING":"plainly"}}')
    await redis.sadd("deployer:places", "notes/production", "notes/canary")
    housekeeping = Housekeeping(
        store, FakeDriver(), defaultdict(asyncio.Lock), tmp_path, releases_kept=1, records_kept=10
    )
    await housekeeping.step()
    sealed = await redis.get(key)
    assert "plainly" not in str(sealed)
    assert (await store.load(PRODUCTION)).override.variables == {"GREETING": "plainly"}
    await housekeeping.step()
    assert await redis.get(key) == sealed
    assert await redis.keys("deployer:override:*") == [key]
