"""What clients see of environments, instances and the registry, put together from store, driver and registry."""

from pydantic import Field

from services.deployer.driver import Driver
from services.deployer.environment import Place, desired
from services.deployer.instance import ENDED, Instance, registry_record
from services.deployer.release import Release, view
from services.deployer.store import Store
from shared.errors import NotFound
from shared.models import Desired, InstanceRecord, InstanceStats, RegistryView, ReleaseState, ReleaseView, View
from shared.registry import Registry

LEADING = (ReleaseState.LIVE, ReleaseState.STARTING, ReleaseState.PENDING)
MASK = "***"


class InstanceDetail(InstanceRecord):
    reason: str = Field(description="Why it is in its state.")
    memory_refusal: str = Field(description="Why its limit is not what is wanted; it is tried again every 30 s.")


class EnvironmentDetail(View):
    """`EnvironmentView`, with what its instances have to say."""

    desired: Desired
    release: ReleaseView | None
    instances: list[InstanceDetail]


async def environment_view(store: Store, place: Place) -> EnvironmentDetail:
    """Of the live release, else of the one on its way, else of the last one. Raises NotFound if there never was one."""
    stored = await store.load(place)
    ranked = [r for state in LEADING for r in stored.releases.values() if r.state is state]
    newest = ranked[:1] or await store.releases(place, limit=1)
    if not newest:
        raise NotFound(f"nothing was ever released to {place}")
    wanted = desired(stored.override, newest[0].manifest.resources)
    return EnvironmentDetail(
        desired=wanted.model_copy(update={"variables": dict.fromkeys(wanted.variables, MASK)}),
        release=view(ranked[0]) if ranked else None,
        instances=[_detail(instance) for instance in stored.instances.values() if instance.state not in ENDED],
    )


def _detail(instance: Instance) -> InstanceDetail:
    record = registry_record(instance).model_dump()
    return InstanceDetail(**record, reason=instance.reason, memory_refusal=instance.memory_refusal)


async def instance_stats(store: Store, driver: Driver) -> list[InstanceStats]:
    """Raises RedisError or DriverError: no list is better than one that looks as if nothing ran."""
    instances: dict[str, Instance] = {}
    releases: dict[str, Release] = {}
    for place in await store.places():
        stored = await store.load(place)
        instances |= stored.instances
        releases |= stored.releases
    usage = await driver.usage(instances)
    return [
        InstanceStats(
            id=instance.id,
            app=instance.app,
            environment=instance.environment,
            release=instance.release,
            state=instance.state,
            started_at=used.started_at,
            memory_limit=used.memory_limit,
            working_set=used.working_set,
            cpu_seconds=used.cpu_seconds,
            restarts=instance.restarts,
            oom_kills=instance.oom_kills + used.oom_kills,
            min_memory=releases[instance.release].manifest.resources.memory,
            max_memory=releases[instance.release].manifest.resources.max_memory,
            memory_pressure=used.memory_pressure,
        )
        for instance in instances.values()
        if (used := usage.get(instance.id)) is not None
    ]


async def registry_view(registry: Registry) -> RegistryView:
    view = RegistryView(services=await registry.services(), instances={})
    for app, track in await registry.tracks():
        view.instances.setdefault(app, {})[track] = await registry.instances(app, track)
    return view
