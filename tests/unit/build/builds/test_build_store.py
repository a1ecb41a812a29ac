from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build import Build, Expired
from services.build.builds.build_store import BuildStore
from shared.errors import Conflict, NotFound
from shared.models import BuildState, Event
from tests.support.build.builds import AT, build, events_in

pytestmark = pytest.mark.anyio
S = BuildState
GONE = Event(type="app.removed", app="a", at=AT)


async def event_types(redis: Redis) -> list[str]:
    return [event.type for event in await events_in(redis)]


def ending(state: BuildState) -> Callable[[Build], Build]:
    return lambda stored: domain.ended(stored, state, "because", AT)


async def test_apps_are_kept_and_deleted(store: BuildStore) -> None:
    await store.add_app(new_app("b", AT))
    await store.add_app(new_app("a", AT))
    assert [app.name for app in await store.apps()] == ["a", "b"]
    with pytest.raises(Conflict):
        await store.add_app(new_app("a", AT))
    await store.remove_app("a", GONE)
    with pytest.raises(NotFound):
        await store.app("a")
    with pytest.raises(NotFound):
        await store.change_app(new_app("a", AT))


async def test_nothing_is_left_of_a_removed_app(store: BuildStore, redis: Redis) -> None:
    await store.add_app(new_app("notes", AT))
    await store.next_number("notes")
    await store.add(build(), is_head=True)
    ended = await store.update("notes-1", ending(S.ERROR))
    await store.drop([ended])
    await store.remove_app("notes", GONE)
    assert await redis.keys("*notes*") == [] and await store.ids() == set()
    assert (await events_in(redis))[-1] == GONE
    assert await store.next_number("notes") == 1


async def test_a_head_names_the_build_that_was_queued_for_it(store: BuildStore) -> None:
    await store.add(build(1), is_head=True)
    await store.add(build(2), is_head=False)
    assert await store.heads("notes") == {"release": (build(1).commit, "notes-1")}
    await store.forget_head("notes", "release")
    assert await store.heads("notes") == {}


async def test_a_head_may_be_without_a_build(store: BuildStore) -> None:
    await store.add(build(1), is_head=True)
    await store.skip_head("notes", "release", build(2).commit)
    assert await store.heads("notes") == {"release": (build(2).commit, "")}


async def test_builds_are_listed_newest_first_page_by_page(store: BuildStore) -> None:
    for one in [build(1), build(1, app="other"), build(2), build(3)]:
        await store.add(one, is_head=False)
    first = await store.builds("notes", limit=2)
    assert [one.id for _, one in first] == ["notes-3", "notes-2"]
    assert [one.id for _, one in await store.builds("notes", limit=2, before=first[-1][0])] == ["notes-1"]
    assert [one.id for _, one in await store.builds(None, limit=9)] == ["notes-3", "notes-2", "other-1", "notes-1"]


async def test_a_build_that_is_added_again_stays_as_it_is(store: BuildStore, redis: Redis) -> None:
    await store.add(build(), is_head=True)
    await store.update("notes-1", lambda stored: domain.started(stored, AT))
    stored = await store.builds("notes", limit=9)
    await store.add(build(), is_head=True)
    assert await store.builds("notes", limit=9) == stored
    assert await event_types(redis) == ["build.queued", "build.running"]


async def test_a_change_is_made_again_if_another_writer_was_first(store: BuildStore, redis_socket: Path) -> None:
    await store.add(build(), is_head=True)
    found = []

    def change(stored: Build) -> Build:
        found.append(stored.excerpt)
        if len(found) == 1:
            with SyncRedis(unix_socket_path=str(redis_socket)) as other:
                other.set("build:build:notes-1", build(excerpt="of the other").model_dump_json())
        return domain.with_changes(stored, reason="changed")

    changed = await store.update("notes-1", change)
    assert (found, changed) == (["", "of the other"], build(excerpt="of the other", reason="changed"))
    assert await store.build("notes-1") == changed


async def test_a_change_of_state_comes_with_one_event(store: BuildStore, redis: Redis) -> None:
    await store.add(build(), is_head=True)
    await store.update("notes-1", lambda stored: domain.started(stored, AT))
    await store.update("notes-1", lambda stored: domain.with_changes(stored, excerpt="x"))
    await store.update("notes-1", ending(S.FAILURE))
    assert await event_types(redis) == ["build.queued", "build.running", "build.failure"]


async def test_a_build_that_has_ended_is_not_changed(store: BuildStore, redis: Redis) -> None:
    await store.add(build(), is_head=True)
    await store.update("notes-1", lambda stored: domain.started(stored, AT))
    await store.update("notes-1", ending(S.SUCCESS))
    again = await store.update("notes-1", ending(S.FAILURE))
    assert (again.state, (await store.build("notes-1")).state) == (S.SUCCESS, S.SUCCESS)
    assert (await event_types(redis)).count("build.failure") == 0


async def test_what_a_change_raises_changes_nothing(store: BuildStore) -> None:
    await store.add(build(), is_head=True)

    def refuse(stored: Build) -> Build:
        raise Conflict("no")

    with pytest.raises(Conflict):
        await store.update("notes-1", refuse)
    assert (await store.build("notes-1")).state is S.QUEUED


async def test_only_builds_that_have_not_ended_are_unended(store: BuildStore) -> None:
    for number in (1, 2, 3):
        await store.add(build(number), is_head=True)
    await store.update("notes-2", ending(S.CANCELLED))
    assert [one.id for one in await store.unended()] == ["notes-1", "notes-3"]


async def test_builds_that_are_cancelled_or_at_the_door_do_not_judge_a_branch(store: BuildStore) -> None:
    assert await store.last_judged("notes", "release") is None
    for number, state in ((1, S.ERROR), (2, S.CANCELLED), (3, S.ERROR)):
        await store.add(build(number, door=number == 3), is_head=number != 3)
        await store.update(f"notes-{number}", ending(state))
    last = await store.last_judged("notes", "release")
    assert last is not None and last.id == "notes-1"


async def test_what_is_not_there_is_not_found(store: BuildStore) -> None:
    with pytest.raises(NotFound):
        await store.build("notes-1")
    with pytest.raises(NotFound):
        await store.update("notes-1", ending(S.ERROR))


async def test_a_position_orders_builds(store: BuildStore) -> None:
    for one in (build(1), build(1, app="other"), build(2)):
        await store.add(one, is_head=False)
    positions = [await store.position(each) for each in ("notes-1", "other-1", "notes-2")]
    assert positions == sorted(set(positions))
    assert [position for position, _ in await store.builds("notes", limit=9)] == [positions[2], positions[0]]
    with pytest.raises(NotFound):
        await store.position("notes-9")


async def test_what_expired_is_noted_once_and_only_of_an_ended_build(store: BuildStore, redis: Redis) -> None:
    await store.add(build(1), is_head=False)
    with pytest.raises(ValueError, match="has not ended"):
        await store.note("notes-1", Expired(log=AT))
    await store.update("notes-1", ending(S.ERROR))
    before = await event_types(redis)
    await store.note("notes-1", Expired(log=AT))
    await store.note("notes-1", Expired(log=AT + timedelta(days=1), artifact=AT))
    kept = await store.build("notes-1")
    assert (kept.expired, kept.state) == (Expired(log=AT, artifact=AT), S.ERROR)
    assert await event_types(redis) == before


async def test_a_build_that_is_dropped_is_known_no_more(store: BuildStore) -> None:
    for number in (1, 2):
        await store.add(build(number), is_head=False)
        await store.update(f"notes-{number}", ending(S.ERROR))
    assert await store.judged("notes") == {"notes-2"}
    first = await store.build("notes-1")
    for _ in range(2):
        await store.drop([first])
    assert [each.id for _, each in await store.builds(None, limit=9)] == ["notes-2"]
    assert [each.id for _, each in await store.builds("notes", limit=9)] == ["notes-2"]
    with pytest.raises(NotFound):
        await store.build("notes-1")
