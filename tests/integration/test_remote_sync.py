"""From deliveries to queued builds: real git, stores in memory and in Redis, a fetch when the test says so."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds.app import AppRemoval, new_app
from services.build.builds.build_store import BuildStore
from services.build.forges.delivery import TRIES, WebhookDelivery, again, new_delivery
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.webhook import Notice
from services.build.git.git_fetch import Fetcher
from services.build.git.remote_source import Forge, Source
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.triggers.push_handler import PushHandler
from services.build.triggers.remote_sync import INTERVAL_S, RemoteSync
from shared.clock import now
from shared.errors import Invalid, NotFound, Unavailable
from shared.models import Environment, Event
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from tests.support.build.outside import FORGE_TOKEN, OutsideDeveloper, OutsideForge

pytestmark = pytest.mark.anyio
WHY = "its git lags, or a later push replaced the commit"


class World:
    def __init__(self, store: BuildStore, deliveries: DeliveryStore, folder: Path, forge: OutsideForge) -> None:
        self.store, self.deliveries, self.forge = store, deliveries, forge
        self.repositories = Repositories(folder / "repositories", os.environ["PATH"])
        self.vault = Vault(folder / "key", "trial")
        self.logs = BuildLogs(folder / "logs")
        self.fetched = asyncio.Event()
        self.ahead = timedelta()
        self.tasks = KeyedTasks("fetch", self.fetched.set, at_a_time=4)
        self.push_handler = PushHandler(
            store, self.repositories, self.logs, wake=lambda: None, url="http://build", now=now
        )
        self.restart()

    def now(self) -> datetime:
        return now() + self.ahead

    def restart(self) -> None:
        fetcher = Fetcher(self.repositories, self.vault, os.environ["PATH"], AddressGuard("127.0.0.0/8"))
        self.remote_sync = RemoteSync(
            self.store,
            self.deliveries,
            self.push_handler,
            fetcher,
            self.tasks,
            self.now,
            wake=lambda: None,
            interval_s=0,
        )

    async def has_source(self) -> None:
        source = Source(forge=Forge.GITEA, url=self.forge.url(), token=self.vault.seal(FORGE_TOKEN))
        await self.store.put_app(new_app("notes", now()).model_copy(update={"source": source}))

    async def hears_of(self, commit: str, branch: str = "release", *, forge_id: str = "", before: str = "") -> str:
        """A delivery's id."""
        notice = Notice("push", branch, commit, before or None)
        delivery, new = await self.deliveries.add(
            new_delivery("notes", Forge.GITEA, forge_id or commit + branch, notice, now())
        )
        assert new
        return delivery.id

    async def step(self) -> None:
        """And what it began."""
        self.fetched.clear()
        await self.remote_sync.step()
        if not self.tasks.has_room_for("notes"):
            await asyncio.wait_for(self.fetched.wait(), 60)

    async def delivery(self, delivery_id: str) -> WebhookDelivery:
        return await self.deliveries.delivery("notes", delivery_id)

    async def built(self) -> list[tuple[str, str | None]]:
        """Commit and branch of every build, oldest first."""
        return [(build.commit, build.branch) for _, build in reversed(await self.store.builds("notes", limit=100))]


@pytest.fixture
async def world(redis: Redis, tmp_path: Path, forge: OutsideForge, developer: OutsideDeveloper) -> AsyncIterator[World]:
    world = World(BuildStore(redis), DeliveryStore(redis), tmp_path, forge)
    await world.has_source()
    await world.step()  # the first one, which looks at every source
    forge.runs = 0
    yield world
    await world.tasks.close()


async def test_a_push_to_the_forge_is_fetched_and_built(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push()
    delivery = await world.delivery(await world.hears_of(commit))
    await world.step()
    after = await world.delivery(delivery.id)
    assert (after.state, after.reason, after.builds) == ("queued", "notes-1 builds it", ["notes-1"])
    assert await world.built() == [(commit, "release")]
    assert await world.deliveries.waiting("notes") == []


async def test_a_step_asks_for_the_next_one_while_a_delivery_waits(world: World, developer: OutsideDeveloper) -> None:
    assert await world.remote_sync.step() is None
    await world.hears_of(developer.push())
    assert await world.remote_sync.step() == INTERVAL_S


async def test_a_burst_is_served_by_one_fetch_and_the_newest_is_built(
    world: World, developer: OutsideDeveloper
) -> None:
    commits = [developer.push() for _ in range(5)]
    oldest, *_ = [await world.hears_of(commit) for commit in commits]
    for number in range(300):
        await world.hears_of(commits[1], forge_id=f"other-{number}")
    await world.step()
    assert world.forge.runs == 2  # a look, and what was new
    assert await world.built() == [(commits[-1], "release")]
    with pytest.raises(NotFound):
        await world.delivery(oldest)  # the newest 200 are kept, once they have ended
    newest = (await world.deliveries.deliveries("notes"))[0]
    assert newest.reason == f"{commits[-1][:10]} is the head of release by now; notes-1 builds it"


async def test_a_webhook_that_outruns_its_forge_is_looked_for_again(world: World, developer: OutsideDeveloper) -> None:
    older = developer.push()
    await world.hears_of(older)
    await world.step()
    newer = developer.push(branch="elsewhere")
    delivery = await world.hears_of(newer)
    await world.step()
    after = await world.delivery(delivery)
    lags = f"the forge shows release at {older[:10]}, not at {newer[:10]}: {WHY}"
    assert (after.state, after.tries, after.reason) == ("received", 1, lags)
    runs = world.forge.runs
    await world.step()
    assert world.forge.runs == runs, "a second has not passed"
    developer.push_refs(f"{newer}:refs/heads/release")
    world.ahead = timedelta(seconds=1)
    await world.step()
    assert (await world.delivery(delivery)).reason == "notes-2 builds it"
    assert [commit for commit, _ in await world.built()] == [older, newer]


async def test_a_new_delivery_does_not_wait_for_one_that_outran_its_forge(
    world: World, developer: OutsideDeveloper
) -> None:
    lost = await world.hears_of("f" * 40)
    for seconds in (0, 1, 6):
        world.ahead = timedelta(seconds=seconds)
        await world.step()
    commit = developer.push()
    delivery = await world.hears_of(commit)
    world.remote_sync.on_delivery("notes")
    await world.step()
    assert ((await world.delivery(delivery)).state, (await world.delivery(lost)).tries) == ("queued", 3)
    world.ahead = timedelta(seconds=31)
    await world.step()
    after = await world.delivery(lost)
    reason = f"given up after 4 tries: the forge shows release at {commit[:10]}, not at ffffffffff: {WHY}"
    assert (after.state, after.reason) == ("failed", reason)


async def test_a_branch_that_is_set_back_or_new_may_lag_too(world: World, developer: OutsideDeveloper) -> None:
    older, newer = developer.push(), developer.push()
    await world.hears_of(newer)
    await world.step()
    back = await world.hears_of(older, before=newer)
    made = await world.hears_of(older, branch="dev", before="0" * 40)
    await world.step()
    assert {(await world.delivery(each)).state for each in (back, made)} == {"received"}
    developer.push_refs(f"+{older}:refs/heads/release", f"{older}:refs/heads/dev")
    world.ahead = timedelta(seconds=1)
    await world.step()
    assert {(await world.delivery(each)).state for each in (back, made)} == {"queued"}


async def test_a_change_of_the_app_during_a_fetch_is_fetched_too(world: World, developer: OutsideDeveloper) -> None:
    developer.push()
    world.remote_sync.request_fetch(await world.store.app("notes"))
    world.forge.hangs = True
    asked = len(world.forge.asked)
    world.fetched.clear()
    await world.remote_sync.step()
    deadline = time.monotonic() + 20
    while len(world.forge.asked) == asked:
        assert time.monotonic() < deadline, "the fetch has not begun"
        await asyncio.sleep(0.01)
    app = await world.store.app("notes")
    await world.store.put_app(app.model_copy(update={"branches": {**app.branches, "main": Environment.CANARY}}))
    world.remote_sync.request_fetch(app)
    commit = developer.push(branch="main")
    world.forge.hangs = False
    await asyncio.wait_for(world.fetched.wait(), 60)
    await world.step()
    assert (commit, "main") in await world.built()


async def test_the_same_commit_is_not_built_twice(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push()
    await world.hears_of(commit)
    await world.step()
    other = await world.hears_of(commit, forge_id="a replay under another id")
    await world.step()
    after = await world.delivery(other)
    assert (after.state, after.reason) == ("fetched", "notes-1 was queued for it before")
    await world.deliveries.save([again(after, now())])
    await world.step()
    assert (await world.delivery(other)).state == "fetched"
    assert len(await world.built()) == 1


async def test_a_queued_build_is_told_also_if_another_loop_was_first(world: World, developer: OutsideDeveloper) -> None:
    """`reconcile` may find the fetched branch before the synchronisation does; or the service ended between the two."""
    commit = developer.push()
    delivery = await world.hears_of(commit)
    await world.remote_sync.build("notes", "release", None)
    await world.step()
    assert (await world.delivery(delivery)).builds == ["notes-1"]
    assert len(await world.built()) == 1


async def test_what_was_received_is_taken_up_after_a_restart(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push()
    delivery = await world.hears_of(commit)
    world.restart()
    await world.step()
    assert (await world.delivery(delivery)).state == "queued"
    assert await world.built() == [(commit, "release")]


async def test_what_was_pushed_while_the_service_was_down_is_built(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push()
    await world.step()
    assert await world.built() == []  # nobody told of it
    world.restart()
    await world.step()
    assert await world.built() == [(commit, "release")]


async def test_a_forge_that_is_down_is_asked_a_few_times(
    world: World, developer: OutsideDeveloper, caplog: pytest.LogCaptureFixture
) -> None:
    commit = developer.push()
    delivery = await world.hears_of(commit)
    world.forge.down = True
    await world.step()
    after = await world.delivery(delivery)
    assert (after.state, after.tries) == ("received", 1)
    assert "503" in after.reason
    asked = len(world.forge.asked)
    await world.step()
    assert len(world.forge.asked) == asked  # the back-off holds
    for _ in range(TRIES - 1):
        world.restart()  # and forgets it
        await world.step()
    after = await world.delivery(delivery)
    assert (after.state, after.tries) == ("failed", TRIES)
    assert after.reason.startswith("given up after 4 tries: fatal: unable to access")
    assert FORGE_TOKEN not in after.reason + caplog.text
    world.forge.down = False
    await world.deliveries.save([again(after, now())])
    world.restart()
    await world.step()
    assert (await world.delivery(delivery)).state == "queued"
    assert await world.built() == [(commit, "release")]


async def test_a_commit_that_asks_to_be_skipped_is_not_built(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push("Typo\n\n[Skip CI]")
    delivery = await world.hears_of(commit)
    await world.step()
    after = await world.delivery(delivery)
    assert (after.state, after.reason) == ("ignored", f"the message of {commit[:10]} says [CI SKIP]; nothing is built")
    await world.push_handler.reconcile()
    assert await world.built() == []
    assert await world.store.heads("notes") == {"release": (commit, "")}
    by_hand = await world.remote_sync.build("notes", "release", None)
    assert (by_hand.commit, by_hand.environment) == (commit, "production")
    following = developer.push()
    await world.hears_of(following)
    await world.step()
    assert [each for each, _ in await world.built()] == [commit, following]


async def test_a_branch_that_is_gone_or_not_mapped_any_more_is_said(world: World, developer: OutsideDeveloper) -> None:
    developer.push()
    delivery = await world.hears_of("3" * 40, branch="gone")
    await world.step()
    after = await world.delivery(delivery)
    assert (after.state, after.reason) == (
        "ignored",
        "gone is not mapped to an environment, or is not there any more",
    )


async def test_a_build_by_hand_fetches_first(world: World, developer: OutsideDeveloper) -> None:
    first = developer.push()
    build = await world.remote_sync.build("notes", "release", None)
    assert (build.commit, build.environment) == (first, "production")
    await world.push_handler.reconcile()
    assert len(await world.built()) == 1
    second = developer.push()
    developer.push_refs("HEAD:refs/heads/feature")
    feature = await world.remote_sync.build("notes", "feature", None)
    assert (feature.commit, feature.environment) == (second, None)
    runs = world.forge.runs
    of_commit = await world.remote_sync.build("notes", None, first)
    assert (of_commit.commit, world.forge.runs) == (first, runs)  # it is there
    third = developer.push()
    head = developer.push()
    older = await world.remote_sync.build("notes", "release", third)
    assert (older.commit, older.off_head) == (third, True)
    assert (head, "release") in await world.built()
    with pytest.raises(Invalid, match=r"^commit: "):
        await world.remote_sync.build("notes", None, "3" * 40)
    with pytest.raises(Invalid, match=r"^branch: "):
        await world.remote_sync.build("notes", "a:b", None)
    world.forge.down = True
    with pytest.raises(Unavailable, match=r"the source of notes could not be fetched: .*503"):
        await world.remote_sync.build("notes", "release", None)


async def test_a_source_that_is_set_is_fetched_without_a_delivery(world: World, developer: OutsideDeveloper) -> None:
    commit = developer.push()
    world.remote_sync.request_fetch(await world.store.app("notes"))
    await world.step()
    assert await world.built() == [(commit, "release")]
    runs = world.forge.runs
    await world.step()
    assert world.forge.runs == runs


async def test_an_app_that_is_being_removed_is_not_fetched(world: World, developer: OutsideDeveloper) -> None:
    await world.hears_of(developer.push())
    app = await world.store.app("notes")
    await world.store.change_app(app.model_copy(update={"removing": AppRemoval(since=now())}))
    await world.step()
    assert (world.forge.runs, await world.deliveries.waiting("notes"), await world.built()) == (0, [], [])


async def test_an_app_that_is_gone_leaves_no_delivery(world: World) -> None:
    await world.hears_of("3" * 40)
    await world.store.remove_app("notes", Event(type="app.removed", app="notes", at=now()))
    await world.step()
    assert await world.deliveries.waiting("notes") == []
    with pytest.raises(NotFound):
        await world.store.app("notes")


async def test_an_app_without_its_source_says_so(world: World) -> None:
    delivery = await world.hears_of("3" * 40)
    await world.store.put_app(new_app("notes", now()))
    for _ in range(TRIES):
        world.restart()
        await world.step()
    after = await world.delivery(delivery)
    assert (after.state, "the app has no source any more" in after.reason) == ("failed", True)
