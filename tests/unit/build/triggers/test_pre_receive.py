"""The gate for pushes over a real repository; builds end as the test says."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import App, new_app
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.git.pre_receive_objects import PreReceiveObjects
from services.build.git.push_socket import IncomingPush, PushRefused
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.triggers.pre_receive import PreReceiveGate
from services.build.triggers.push_handler import PushHandler
from shared.models import BuildState
from shared.store import RedisError
from tests.support.build.builds import AT, build, events_in

pytestmark = pytest.mark.anyio
S = BuildState


class Store(BuildStore):
    is_away = False

    async def app(self, name: str) -> App:
        if self.is_away:
            raise RedisError("away")
        return await super().app(name)


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    repositories = Repositories(tmp_path / "repositories", "/usr/bin:/bin")
    repositories.ensure("notes", gated=True)
    return repositories


@pytest.fixture
def objects(repositories: Repositories) -> PreReceiveObjects:
    return PreReceiveObjects(repositories)


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)


@pytest.fixture
def door(tmp_path: Path, store: Store, repositories: Repositories, objects: PreReceiveObjects) -> PreReceiveGate:
    logs = BuildLogs(tmp_path / "logs")
    push_handler = PushHandler(store, repositories, logs, wake=lambda: None, url="http://build", now=lambda: AT)
    return PreReceiveGate(
        store,
        push_handler,
        objects,
        logs,
        wake=lambda: None,
        on_abandoned=lambda: None,
        is_connected=lambda push: push != "gone",
    )


@pytest.fixture
def commit(repositories: Repositories) -> str:
    variables = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    tree = repositories.git("notes", "hash-object", "-w", "-t", "tree", "/dev/null").strip()
    return repositories.git("notes", "commit-tree", "-m", "change", tree, **variables).strip()


def push(commit: str, *, by: str = "push-1", ref: str = "refs/heads/release", objects: str = "") -> IncomingPush:
    return IncomingPush("notes", by, objects, [f"{'0' * 40} {commit} {ref}"])


async def said(door: PreReceiveGate, pushed: IncomingPush) -> str:
    """Returns the text that the pusher reads, with a refusal at its end."""
    text = b""
    try:
        async for data in door.judge(pushed):
            text += data
    except PushRefused as refused:
        return text.decode() + f"refused: {refused}"
    return text.decode()


async def queued(store: Store) -> Build:
    """The first build, once it is there."""
    while not (waiting := await store.unended()):
        await asyncio.sleep(0.01)
    return waiting[0]


async def gated(store: Store) -> None:
    await store.put_app(new_app("notes", AT).model_copy(update={"gate": "push"}))


@pytest.mark.parametrize("state", [state for state in S if state in domain.ENDED])
async def test_only_success_opens_the_door(
    store: Store, redis: Redis, door: PreReceiveGate, commit: str, state: S
) -> None:
    await gated(store)
    pushing = asyncio.create_task(said(door, push(commit)))
    build = await queued(store)
    assert (build.door, build.branch, build.commit, build.environment) == (True, "release", commit, None)
    await door.step()  # cancels nothing that a push waits for
    if state in (S.SUCCESS, S.FAILURE):
        await store.update(build.id, lambda stored: domain.started(stored, AT))
    await store.update(build.id, lambda stored: domain.ended(stored, state, "so it is", AT))
    text = await pushing
    assert "notes-1 queued" in text
    assert ("refused: " in text) is (state is not S.SUCCESS)
    assert all(event.notify == [] for event in await events_in(redis))


async def test_without_redis_nothing_goes_in(store: Store, door: PreReceiveGate, commit: str) -> None:
    store.is_away = True
    told = "refused: Redis does not answer (RedisError), so nothing can be judged."
    assert (await said(door, push(commit))).startswith(told)


async def test_what_needs_no_verdict_is_not_held_up(store: Store, door: PreReceiveGate, commit: str) -> None:
    await gated(store)
    for pushed in (push(commit, ref="refs/heads/dev"), push(commit, ref="refs/tags/release"), push("0" * 40)):
        assert await said(door, pushed) == ""
    await store.put_app(new_app("notes", AT))
    assert await said(door, push(commit)) == ""
    assert await store.unended() == []


async def test_what_cannot_be_judged_is_refused(
    store: Store, door: PreReceiveGate, repositories: Repositories, commit: str, tmp_path: Path
) -> None:
    await gated(store)
    tree = repositories.git("notes", "rev-parse", f"{commit}^{{tree}}").strip()
    assert f"refused: release: the commit cannot be judged: {tree[:10]} is no commit" in await said(door, push(tree))
    assert "refused: release: the commit cannot be judged" in await said(door, push("a" * 40))
    elsewhere = push(commit, objects=str(tmp_path))
    assert "the objects of the push are not in git's quarantine folder" in await said(door, elsewhere)
    assert await store.unended() == []


async def test_a_build_that_nobody_waits_for_is_cancelled(
    store: Store, door: PreReceiveGate, objects: PreReceiveObjects, commit: str
) -> None:
    await gated(store)
    pushing = asyncio.create_task(said(door, push(commit, by="gone")))
    assert "its pusher has disconnected" in await pushing
    await store.add(build(7, door=True), is_head=False)  # a killed service left it
    await store.add(build(8), is_head=True)
    assert objects.kept() == {("notes", commit)}
    await door.step()
    stops = {build.id: build.stop and build.stop.state for build in await store.unended()}
    assert stops == {"notes-1": S.CANCELLED, "notes-7": S.CANCELLED, "notes-8": None}
    await store.update("notes-1", lambda stored: domain.ended(stored, S.CANCELLED, "", AT))
    await door.step()
    assert objects.kept() == set()


async def test_pushes_of_one_commit_wait_for_one_build(store: Store, door: PreReceiveGate, commit: str) -> None:
    await gated(store)
    pushes = [asyncio.create_task(said(door, push(commit, by=by))) for by in ("push-1", "push-2", "gone")]
    await pushes[2]
    await door.step()
    (build,) = await store.unended()
    assert build.stop is None
    await store.update(build.id, lambda stored: domain.ended(stored, S.ERROR, "", AT))
    assert all("the platform's fault" in text for text in await asyncio.gather(*pushes[:2]))


def test_what_is_kept_is_whole_and_hidden(
    repositories: Repositories, objects: PreReceiveObjects, commit: str, tmp_path: Path
) -> None:
    objects.add("notes", commit, "")
    objects.add("notes", commit, "")
    checked = subprocess.run(["git", "fsck", "--strict"], cwd=repositories.path("notes"), capture_output=True)
    assert checked.returncode == 0
    assert repositories.heads("notes") == {}
    objects.remove("notes", commit)
    objects.remove("notes", commit)
    assert objects.kept() == set()
