"""The registry loop reads what has changed; an address that another instance has now leads nobody to its old app."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.sync import ALL_EVERY, RegistrySync
from services.proxy.envoy.limits import OWN_FILES, FileLimit
from services.proxy.routes.route import EndpointState
from shared.errors import Conflict, Unavailable
from shared.models import InstanceState, Track
from shared.proxy_models import SyncRequest
from shared.registry import Registry
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import endpoint, record, route

pytestmark = pytest.mark.anyio

APPS = [f"app{number}" for number in range(40)]


def registry_sync(plane: Plane, redis: Redis) -> RegistrySync:
    return RegistrySync(plane.control, Registry(redis), plane.counts, "localhost", FileLimit(20_000))


def state(plane: Plane, app: str, instance: str) -> EndpointState:
    return plane.control.route(app).endpoints[Track.STABLE][instance].state


async def commands(redis: Redis) -> int:
    """The number of commands that the server has got; this question counts as one."""
    return int((await redis.info("stats"))["total_commands_processed"])


@pytest.fixture
async def forty(tmp_path: Path, redis: Redis) -> Plane:
    """Each app has an instance with an address of its own, and its entry."""
    registry = Registry(redis)
    for number, app in enumerate(APPS):
        await registry.put_instance(app, Track.STABLE, record(f"{app}-r1-1", port=20000 + number))
    instances = [(app, endpoint(f"{app}-r1-1", port=20000 + number)) for number, app in enumerate(APPS)]
    return Plane(tmp_path, redis, *(route(instance, app=app) for app, instance in instances))


async def test_a_round_in_which_nothing_changed_is_one_command_whatever_the_number_of_apps(
    forty: Plane, redis: Redis
) -> None:
    sync = registry_sync(forty, redis)
    await sync.step()
    before = await commands(redis)

    await sync.step()

    assert await commands(redis) - before - 1 == 1


async def test_only_the_apps_that_changed_are_read(forty: Plane, redis: Redis) -> None:
    sync = registry_sync(forty, redis)
    await sync.step()
    unwell = record("app7-r1-1", InstanceState.UNHEALTHY, port=20007)
    await Registry(redis).put_instance("app7", Track.STABLE, unwell)
    before = await commands(redis)

    await sync.step()

    assert await commands(redis) - before - 1 == 3  # its two tracks, and the changes
    assert state(forty, "app7", "app7-r1-1") is EndpointState.UNHEALTHY


async def test_what_an_earlier_deployer_writes_is_seen_a_little_later(forty: Plane, redis: Redis) -> None:
    sync = registry_sync(forty, redis)
    await sync.step()
    unwell = record("app7-r1-1", InstanceState.UNHEALTHY, port=20007)
    await redis.hset("registry:instance:app7:stable", "app7-r1-1", unwell.model_dump_json())

    for _ in range(ALL_EVERY):
        await sync.step()

    assert state(forty, "app7", "app7-r1-1") is EndpointState.UNHEALTHY


async def test_all_stays_as_it_was_when_redis_has_lost_everything_and_what_comes_then_is_seen(
    forty: Plane, redis: Redis
) -> None:
    sync = registry_sync(forty, redis)
    await sync.step()
    await redis.flushdb()

    await sync.step()
    assert {state(forty, app, f"{app}-r1-1") for app in APPS} == {EndpointState.READY}

    await Registry(redis).put_instance("app7", Track.STABLE, record("app7-r2-1", port=20008))  # app8 had this address
    await sync.step()
    assert state(forty, "app7", "app7-r2-1") is EndpointState.READY
    assert forty.control.route("app8").endpoints[Track.STABLE] == {}


async def test_an_app_whose_entries_cannot_be_read_keeps_no_other_waiting_and_is_read_again(
    forty: Plane, redis: Redis
) -> None:
    sync, registry = registry_sync(forty, redis), Registry(redis)
    await sync.step()
    await redis.hset("registry:instance:app3:stable", "app3-r1-1", "not JSON")
    await registry.put_instance("app3", Track.CANARY, record("app3-r2-1", port=30000))
    unwell = record("app7-r1-1", InstanceState.UNHEALTHY, port=20007)
    await registry.put_instance("app7", Track.STABLE, unwell)

    with pytest.raises(Unavailable, match="app3 cannot be read"):
        await sync.step()
    assert state(forty, "app7", "app7-r1-1") is EndpointState.UNHEALTHY

    mended = record("app3-r1-1", InstanceState.UNHEALTHY, port=20003)
    await redis.hset("registry:instance:app3:stable", "app3-r1-1", mended.model_dump_json())
    await sync.step()
    assert state(forty, "app3", "app3-r1-1") is EndpointState.UNHEALTHY


async def test_an_endpoint_whose_entry_goes_after_its_address_was_given_away_is_removed(
    tmp_path: Path, redis: Redis
) -> None:
    plane = Plane(tmp_path, redis, route(endpoint("new-r1-1"), app="new"), route(endpoint("old-r1-1"), app="old"))
    registry, sync = Registry(redis), registry_sync(plane, redis)
    await registry.put_instance("new", Track.STABLE, record("new-r1-1"))
    await registry.put_instance("old", Track.STABLE, record("old-r1-1"))
    await sync.step()
    await registry.delete_instance("old", Track.STABLE, "old-r1-1")

    await sync.step()  # nothing of the app `new` changes

    assert plane.control.route("old").endpoints[Track.STABLE] == {}
    assert list(plane.control.route("new").endpoints[Track.STABLE]) == ["new-r1-1"]


async def test_a_new_app_beyond_envoys_limit_is_refused_by_name_and_known_ones_go_on(
    tmp_path: Path, redis: Redis
) -> None:
    plane = Plane(tmp_path, redis, route(endpoint("old-r1-1", EndpointState.UNHEALTHY), app="old"))
    sync = RegistrySync(plane.control, Registry(redis), plane.counts, "localhost", FileLimit(2 * OWN_FILES + 2))

    with pytest.raises(
        Conflict, match=r"^new is a new app, .* enough for 1 instances, and has 1: raise the hard limit"
    ):
        await sync.sync("new", SyncRequest(hosts=[]))

    assert list(plane.control.routes) == ["old"]
    assert list((await sync.sync("old", SyncRequest(hosts=[]))).instances) == ["old-r1-1"]
    warning = await sync.limit_warning()
    assert warning is not None and "raise the hard limit" in warning


async def test_an_endpoint_without_an_entry_stays_while_nobody_has_its_address(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route(endpoint("old-r1-1"), app="old"))

    await registry_sync(plane, redis).step()

    assert list(plane.control.route("old").endpoints[Track.STABLE]) == ["old-r1-1"]


async def test_the_first_app_does_not_get_the_unknown_hosts(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route())
    await Registry(redis).put_instance("notes", Track.STABLE, record("notes-r1-1"))
    await registry_sync(plane, redis).step()
    assert plane.control.route("notes").ready(Track.STABLE)
    assert plane.control.route("notes").claims == {"notes.localhost"}


async def test_a_manifests_hosts_are_taken_in_their_normal_form_and_wildcards_too(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis)
    await registry_sync(plane, redis).sync("notes", SyncRequest(hosts=["WWW.example.com.", "*.example.org"]))
    assert plane.control.route("notes").claims == {"notes.localhost", "www.example.com", "*.example.org"}


async def test_no_manifest_takes_the_host_name_of_an_app_that_is_still_to_come(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route())
    with pytest.raises(Conflict, match=r"host later\.localhost belongs to app later; ") as refusal:
        await registry_sync(plane, redis).sync("notes", SyncRequest(hosts=["later.localhost"]))
    assert refusal.value.extra["app"] == "later"
    assert plane.control.route("notes").claims == {"notes.localhost"}


async def test_what_an_earlier_version_let_an_app_take_stays_until_the_app_of_that_name_comes(
    tmp_path: Path, redis: Redis
) -> None:
    hosts = ["later.localhost", "notes.localhost"]
    plane = Plane(tmp_path, redis, route().model_copy(update={"hosts": hosts}))
    sync = registry_sync(plane, redis)
    await sync.sync("notes", SyncRequest(hosts=hosts))
    assert plane.control.route("notes").claims == {*hosts}

    await sync.sync("later", SyncRequest(hosts=[]))
    assert plane.control.route("notes").claims == {"notes.localhost"}
    assert plane.control.route("later").claims == {"later.localhost"}
    with pytest.raises(Conflict, match=r"host later\.localhost belongs to app later; "):
        await sync.sync("notes", SyncRequest(hosts=hosts))
