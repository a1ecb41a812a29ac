"""The store's contract."""

import json

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.deployer.plan.apply_changes import Commit, release_event
from services.deployer.releases.environment import NOTHING, EnvironmentId, Override, SecretOverride
from services.deployer.store import PRUNED_IN_ALL, Store
from shared.models import Environment, InstanceState, ReleaseState
from tests.support.deployer.fakes import T0, a_release, an_instance, stored_events

pytestmark = pytest.mark.anyio
R = ReleaseState
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)
CANARY = EnvironmentId("notes", Environment.CANARY)


async def test_numbers_count_per_app(store: Store) -> None:
    assert [await store.next_number("notes") for _ in range(2)] == [1, 2]
    assert await store.next_number("other") == 1


async def test_what_is_committed_is_loaded(store: Store) -> None:
    release = a_release(1)
    instances = [an_instance(release, 2), an_instance(release, 10)]
    await store.commit(PRODUCTION, Commit({release.id: release}, {each.id: each for each in reversed(instances)}))
    await store.save_override(PRODUCTION, Override(replicas=2))
    stored = await store.load(PRODUCTION)
    assert stored.releases == {release.id: release}
    assert list(stored.instances.values()) == instances
    assert stored.override == Override(replicas=2)
    assert await store.release("notes-r1") == release
    assert await store.environments() == [PRODUCTION]


async def test_all_instances_are_read_at_once_but_those_that_have_ended(store: Store) -> None:
    assert await store.all_instances() == ([], {})
    one, two, three = a_release(1), a_release(2, app="web", id="web-r2"), a_release(3, R.FAILED)
    runs, also = an_instance(one, 1), an_instance(two, 1)
    failed, ended = an_instance(three, 1, InstanceState.FAILED), an_instance(three, 2, InstanceState.STOPPED)
    ended = ended.model_copy(update={"ended_at": T0})
    for release, instances in ((one, [runs]), (two, [also]), (three, [failed, ended])):
        commit = Commit({release.id: release}, {each.id: each for each in instances})
        await store.commit(release.environment_id, commit)
    found, releases = await store.all_instances()
    assert sorted(instance.id for instance in found) == ["notes-r1-1", "notes-r3-1", "web-r2-1"]
    assert releases == {each.id: each for each in (one, two, three)}
    changed = runs.model_copy(update={"oom_kills": 2})
    await store.commit(one.environment_id, Commit(instances={runs.id: changed}))
    assert changed in (await store.all_instances())[0]


SET = Override(variables={"A": "plainly"}, secrets={"B": SecretOverride(value=SecretStr("plainly"), set_at=T0)})


async def test_what_is_set_before_the_first_release_makes_the_place_and_stays_apart(store: Store) -> None:
    await store.save_override(CANARY, SET)
    assert await store.environments() == [CANARY]
    loaded = (await store.load(CANARY)).override
    assert (loaded.variables, loaded.secrets) == (SET.variables, SET.secrets)
    assert (await store.load(PRODUCTION)).override == Override()


async def test_the_configuration_changes_with_the_values(store: Store) -> None:
    seen = []
    for override in (Override(replicas=2), SET, SET.model_copy(update={"memory": 1}), Override(variables={"A": "b"})):
        await store.commit(PRODUCTION, Commit(override=override))
        seen.append((await store.load(PRODUCTION)).override.configuration)
    assert seen[0] == NOTHING and seen[1] == seen[2] and len(set(seen)) == 3


async def test_no_value_is_stored_in_the_clear(store: Store, redis: Redis) -> None:
    await store.save_override(PRODUCTION, SET)
    await store.commit(CANARY, Commit(override=SET))
    stored = [str(await redis.get(key)) async for key in redis.scan_iter("deployer:override:*")]
    assert len(stored) == 2 and "plainly" not in "".join(stored)


async def test_a_commit_changes_the_override_only_if_it_has_one(store: Store) -> None:
    await store.commit(PRODUCTION, Commit(override=Override(memory=1)))
    await store.commit(PRODUCTION, Commit())
    assert (await store.load(PRODUCTION)).override == Override(memory=1)


async def test_environments_are_apart(store: Store) -> None:
    release = a_release(1)
    await store.commit(PRODUCTION, Commit({release.id: release}))
    stored = await store.load(CANARY)
    assert (stored.releases, stored.instances, stored.override) == ({}, {}, Override())
    assert await store.releases(CANARY) == []
    assert await store.release("notes-r2") is None


async def test_ended_releases_are_loaded_only_as_long_as_something_is_to_be_done(store: Store) -> None:
    used, done = a_release(1, R.RETIRED), a_release(2, R.RETIRED)
    aborting = a_release(3, R.ROLLED_BACK, abort_rollout=True)
    instance = an_instance(used, 1, InstanceState.DRAINING)
    releases = {release.id: release for release in (used, done, aborting)}
    await store.commit(PRODUCTION, Commit(releases, {instance.id: instance}))
    assert set((await store.load(PRODUCTION)).releases) == {"notes-r1", "notes-r3"}
    ended = aborting.model_copy(update={"abort_rollout": False})
    await store.commit(PRODUCTION, Commit({ended.id: ended}, dropped=[instance]))
    assert (await store.load(PRODUCTION)).releases == {}
    assert [release.number for release in await store.releases(PRODUCTION)] == [3, 2, 1]


async def test_lists_go_on_from_a_number(store: Store) -> None:
    releases = {release.id: release for release in (a_release(number, R.RETIRED) for number in (1, 2, 10))}
    await store.commit(PRODUCTION, Commit(releases))
    assert [r.number for r in await store.releases(PRODUCTION, limit=2)] == [10, 2]
    assert [r.number for r in await store.releases(PRODUCTION, before=2, limit=2)] == [1]


async def test_a_walk_over_the_releases_stays_true_while_others_are_made_and_pruned(store: Store) -> None:
    await made(store, 1, 40)
    walked = [await store.releases(PRODUCTION, limit=10)]
    await made(store, 41, 60)
    await store.prune([PRODUCTION], releases=1, records=45)  # 60 … 16 are left, and 1, which lives
    while page := await store.releases(PRODUCTION, before=walked[-1][-1].number, limit=10):
        walked.append(page)
    assert [release.number for page in walked for release in page] == [*range(40, 15, -1), 1]


async def made(store: Store, first: int, last: int, environment_id: EnvironmentId = PRODUCTION) -> None:
    """Releases with these numbers, of which only the first of all lives."""
    states = {number: R.LIVE if number == 1 else R.FAILED for number in range(first, last + 1)}
    changes = {"environment": environment_id.environment}
    releases = [a_release(number, state, live_at=None, **changes) for number, state in states.items()]
    await store.commit(environment_id, Commit({release.id: release for release in releases}))


async def test_records_are_pruned_in_portions_and_what_is_needed_stays(store: Store, redis: Redis) -> None:
    await made(store, 1, 350)
    used, aborting, down, waits = (
        a_release(2, R.RETIRED),
        a_release(3, R.ROLLED_BACK, abort_rollout=True),
        a_release(4, R.FAILED, down_from=T0),
        a_release(5, R.PENDING, live_at=None),
    )
    instance = an_instance(used, 1, InstanceState.STOPPED)
    changed = {release.id: release for release in (used, aborting, down, waits)}
    await store.commit(PRODUCTION, Commit(changed, {instance.id: instance}))
    world = await store.load(PRODUCTION)
    left = []
    for _ in range(5):
        await store.prune([CANARY, PRODUCTION], releases=5, records=20)
        left.append(len(await store.releases(PRODUCTION)))
    assert left == [250, 150, 50, 25, 25]
    assert [release.number for release in await store.releases(PRODUCTION)] == [*range(350, 330, -1), 5, 4, 3, 2, 1]
    assert len([key async for key in redis.scan_iter("deployer:release:*")]) == 25
    assert await store.load(PRODUCTION) == world
    assert await store.release("notes-r330") is None


async def test_of_many_environments_some_are_pruned_at_a_time(store: Store) -> None:
    environments = [EnvironmentId(f"app-{number}", Environment.PRODUCTION) for number in range(12)]
    for each in environments:
        made = [a_release(n, R.FAILED, id=f"{each.app}-r{n}", app=each.app, live_at=None) for n in range(1, 111)]
        await store.commit(each, Commit({release.id: release for release in made}))
    for left in (12 * 110 - PRUNED_IN_ALL, 12 * 10, 12 * 10):
        await store.prune(environments, releases=1, records=10)
        assert sum([len(await store.releases(each)) for each in environments]) == left


async def test_events_are_in_the_transaction_of_their_cause(store: Store, redis: Redis) -> None:
    release = a_release(1)
    await store.commit(PRODUCTION, Commit({release.id: release}, events=[release_event(release, T0)]))
    assert [event.type for event in await stored_events(redis)] == ["release.live"]


async def test_a_record_keeps_its_fields_names_whatever_the_code_calls_them(store: Store, redis: Redis) -> None:
    release = a_release(1, drain_old_at=T0, replaces_faulty="notes-r0", automatic_rollback="notes-r2")
    instance = an_instance(release, 1, facts_digest="a digest")
    await store.commit(PRODUCTION, Commit({release.id: release}, {instance.id: instance}))
    stored = await redis.hget("deployer:instances:notes:production", instance.id)
    assert json.loads(str(stored))["told"] == "a digest"
    record = json.loads(str(await redis.get("deployer:release:notes-r1")))
    assert (record["takes_back"], record["taken_back"]) == ("notes-r0", "notes-r2")
    assert record["room_at"] == T0.isoformat().replace("+00:00", "Z")
    loaded = await store.load(PRODUCTION)
    assert (loaded.releases, loaded.instances) == ({release.id: release}, {instance.id: instance})
