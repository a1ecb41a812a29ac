"""The view of an environment combines stored instances with what the engine measures."""

from collections.abc import Iterable
from datetime import datetime

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from services.deployer.api.environment_view import environment_view, instance_stats, registry_view
from services.deployer.drivers.driver import InstanceSpec
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.prober import Prober
from services.deployer.releases.environment import Locked, Override, SecretOverride
from services.deployer.releases.instance import registry_record
from services.deployer.store import Store
from shared.errors import NotFound
from shared.manifest import MIB
from shared.models import InstanceState, Track
from shared.registry import ProbeRecord, Registry
from tests.support.deployer.fakes import T0, FakeDriver, a_release, an_instance

pytestmark = pytest.mark.anyio
RELEASE = a_release(1)


async def test_counters_count_on_and_pressure_is_passed_on(store: Store) -> None:
    driver = FakeDriver()
    runs = an_instance(RELEASE, 2, oom_kills=3, restarts=4)
    failed = an_instance(RELEASE, 1, InstanceState.FAILED)
    await store.commit(
        RELEASE.environment_id, Commit({RELEASE.id: RELEASE}, {each.id: each for each in (failed, runs)})
    )
    await driver.start(InstanceSpec(runs.id, RELEASE.artifact, "run", {}, 64 * MIB, 8000))
    [item] = await instance_stats(store, driver)
    assert (item.id, item.oom_kills, item.restarts, item.memory_pressure) == (runs.id, 3, 4, 1.5)
    assert (item.memory_limit, item.min_memory, item.max_memory) == (64 * MIB, 64 * MIB, 512 * MIB)


async def test_an_instance_says_why_its_limit_is_not_what_is_wanted(store: Store) -> None:
    instance = an_instance(RELEASE, 1, memory_refusal="it uses more")
    await store.commit(RELEASE.environment_id, Commit({RELEASE.id: RELEASE}, {instance.id: instance}))
    [shown] = (await environment_view(store, RELEASE.environment_id)).instances
    assert (shown.id, shown.reason, shown.memory_refusal) == (instance.id, "a reason", "it uses more")


async def test_before_the_first_release_what_was_set_is_shown_secrets_by_name(store: Store) -> None:
    with pytest.raises(NotFound):
        await environment_view(store, RELEASE.environment_id)
    secrets = {name: SecretOverride(value=SecretStr("hush"), set_at=T0) for name in ("B", "A")}
    await store.save_override(RELEASE.environment_id, Override(variables={"GREETING": "hello"}, secrets=secrets))
    shown = await environment_view(store, RELEASE.environment_id)
    assert (shown.desired.variables, shown.problem, shown.release) == ({"GREETING": "hello"}, None, None)
    assert shown.model_dump(mode="json")["desired"]["secrets"] == {
        "A": {"set_at": "2026-01-01T00:00:00Z"},
        "B": {"set_at": "2026-01-01T00:00:00Z"},
    }
    assert "hush" not in shown.model_dump_json()


async def test_values_that_are_lost_are_told_as_the_environments_problem(store: Store) -> None:
    locked = {"A": Locked(sealed="x"), "B": Locked(sealed="x", set_at=T0)}
    await store.save_override(RELEASE.environment_id, Override(locked=locked))
    shown = await environment_view(store, RELEASE.environment_id)
    assert shown.problem and "A, B cannot be decrypted" in shown.problem
    assert (shown.desired.variables, list(shown.desired.secrets)) == ({}, ["B"])


async def test_the_registry_has_the_probes_of_apps_with_a_canary(redis: Redis) -> None:
    registry = Registry(redis)
    for app, track in (("notes", Track.STABLE), ("notes", Track.CANARY), ("shop", Track.STABLE)):
        number = 1 if track is Track.STABLE else 2
        release = a_release(number, app=app, id=f"{app}-r{number}")
        await registry.put_instance(app, track, registry_record(an_instance(release, 1, InstanceState.READY)))
    prober = KnownProbes()
    view = await registry_view(registry, prober)
    assert sorted(view.probes) == ["notes-r1-1", "notes-r2-1"]
    assert view.probes["notes-r1-1"].answered_at is not None


class KnownProbes(Prober):
    """Has probed every instance."""

    def __init__(self) -> None:
        super().__init__(lambda environment_id: None)

    def records(self, instance_ids: Iterable[str], now: datetime) -> dict[str, ProbeRecord]:
        return {each: ProbeRecord(answered_at=now) for each in instance_ids}
