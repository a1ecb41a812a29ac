"""Composes the views of environments, instances and the registry for clients, from store, driver and registry."""

from datetime import datetime

from pydantic import Field

from services.deployer.drivers.driver import Driver
from services.deployer.reconcile.prober import Prober
from services.deployer.releases.environment import EnvironmentId, EnvironmentState, Override, desired
from services.deployer.releases.instance import ENDED, Instance, registry_record
from services.deployer.releases.release import view
from services.deployer.store import Store
from shared.clock import now
from shared.errors import NotFound
from shared.manifest import Resources
from shared.models import (
    Desired,
    InstanceRecord,
    InstanceStats,
    ReleaseState,
    ReleaseView,
    Track,
    View,
)
from shared.registry import Registry, RegistryView

LEADING = (ReleaseState.LIVE, ReleaseState.STARTING, ReleaseState.PENDING)


class InstanceDetail(InstanceRecord):
    reason: str = Field(description="Reason for its state.")
    memory_refusal: str = Field(description="Reason why its memory limit is not the desired one; else empty.")


class EnvironmentSecretView(View):
    set_at: datetime = Field(description="Time of the last change.")


class DesiredDetail(Desired):
    secrets: dict[str, EnvironmentSecretView] = Field(description="By name; only the app receives the values.")


class EnvironmentDetail(View):
    """Response body of `GET /apps/{app}/environments/{environment}`: the desired and the actual state."""

    desired: DesiredDetail
    state: EnvironmentState = Field(description="What people want of it: `running`, `stopped` or `removing`.")
    reason: str = Field(description="Reason for its state; empty if it was never stopped.")
    since: datetime | None = Field(description="Time of the last change of `state`; null if there was none.")
    problem: str | None = Field(description="Reason why no instance can be started, and the remedy; else null.")
    release: ReleaseView | None
    instances: list[InstanceDetail]


async def environment_view(store: Store, environment_id: EnvironmentId) -> EnvironmentDetail:
    """Returns the environment with its live release or, if there is none, the starting or pending one. If memory or
    replicas are not set on the environment, the manifest of that release gives them; without such a release, the
    manifest of the newest one. Raises NotFound if the environment never had a release, a variable or a secret.
    """
    stored = await store.load(environment_id)
    ranked = [r for state in LEADING for r in stored.releases.values() if r.state is state]
    newest = ranked[:1] or await store.releases(environment_id, limit=1)
    if not newest and environment_id not in await store.environments():
        raise NotFound(f"nothing was ever released to {environment_id}")
    return EnvironmentDetail(
        desired=_desired(stored.override, newest[0].manifest.resources if newest else Resources()),
        state=stored.override.lifecycle.state,
        reason=stored.override.lifecycle.reason,
        since=stored.override.lifecycle.since,
        problem=stored.override.problem or (ranked[0].problem if ranked else None),
        release=view(ranked[0], now()) if ranked else None,
        instances=[_detail(instance) for instance in stored.instances.values() if instance.state not in ENDED],
    )


def _desired(override: Override, resources: Resources) -> DesiredDetail:
    set_at = {name: secret.set_at for name, secret in override.secrets.items()}
    set_at |= {name: locked.set_at for name, locked in override.locked.items() if locked.set_at is not None}
    secrets = {name: EnvironmentSecretView(set_at=at) for name, at in sorted(set_at.items())}
    return DesiredDetail(**desired(override, resources).model_dump(), secrets=secrets)


def _detail(instance: Instance) -> InstanceDetail:
    record = registry_record(instance).model_dump()
    return InstanceDetail(**record, reason=instance.reason, memory_refusal=instance.memory_refusal)


async def instance_stats(store: Store, driver: Driver) -> list[InstanceStats]:
    """Returns the counters of all running instances: memory, CPU time, restarts, kills at the memory limit. Raises
    RedisError if Redis does not answer, and DriverError if the driver cannot read them.
    """
    instances, releases = await store.all_instances()
    usage = await driver.usage(instance.id for instance in instances)
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
        for instance in instances
        if (used := usage.get(instance.id)) is not None
    ]


async def registry_view(registry: Registry, prober: Prober) -> RegistryView:
    instances = await registry.all_instances()
    compared = [
        record.id
        for tracks in instances.values()
        if tracks.get(Track.CANARY)
        for records in tracks.values()
        for record in records
    ]
    return RegistryView(services=await registry.services(), instances=instances, probes=prober.records(compared, now()))
