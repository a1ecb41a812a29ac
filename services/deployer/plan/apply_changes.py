"""Applies planned changes: returns the new versions of releases and instances, with the events about them, to be
stored. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.deployer.plan import action
from services.deployer.plan.action import Change
from services.deployer.plan.observe import World
from services.deployer.plan.stop_first import is_stop_first
from services.deployer.releases import instance as instances
from services.deployer.releases import release as releases
from services.deployer.releases.environment import Override, desired
from services.deployer.releases.instance import RUNNING, Instance, crashes_in_a_row, is_helped_by
from services.deployer.releases.rebuild import Rebuild
from services.deployer.releases.release import Release
from shared.models import Event, InstanceState, ReleaseFailure, ReleaseState

EXCERPT_BYTES = 4096


@dataclass
class Commit:
    """Holds changes of one environment that the store writes in one transaction."""

    releases: dict[str, Release] = field(default_factory=dict)
    """Id → new version, for each release that changes."""
    instances: dict[str, Instance] = field(default_factory=dict)
    """Id → new version, for each instance that changes."""
    dropped: list[Instance] = field(default_factory=list)
    """Instances whose records are deleted."""
    events: list[Event] = field(default_factory=list)
    override: Override | None = None
    """New override of the environment; None if the stored one stays."""


def release_event(release: Release, at: datetime) -> Event:
    return Event(
        type=f"release.{release.state}",
        app=release.app,
        at=at,
        id=release.id,
        reason=release.reason,
        notify=release.manifest.notify,
        **_subject(release),
        **_failure_evidence(release),
        **_downtime(release),
    )


def artifact_event(state: str, release: Release, reason: str, at: datetime) -> Event:
    """Returns the event `artifact.<state>` about the artifact of a live release. `state` is `gone` (no instance can be
    started from it), `lost` (it could not be built again), or `found` (it is usable again).
    """
    return Event(
        type=f"artifact.{state}",
        app=release.app,
        at=at,
        id=release.id,
        reason=reason,
        notify=release.manifest.notify,
        **_subject(release),
    )


def _instance_event(instance: Instance, release: Release, at: datetime) -> Event:
    return Event(
        type=f"instance.{instance.state}",
        app=instance.app,
        at=at,
        id=instance.id,
        reason=instance.reason,
        notify=release.manifest.notify,
        **_subject(release),
        **_memory(instance, release),
    )


def _subject(release: Release) -> dict[str, str]:
    return {
        "release": release.id,
        "environment": release.environment,
        "commit": release.commit,
        "build": release.build,
    }


def _failure_evidence(release: Release) -> dict[str, str | int | None]:
    """Returns the fields `exit_code`, `probe` and `excerpt` (the end of the log, at most 4096 bytes) for the event of a
    failed release; empty for any other release.
    """
    failure = release.failure
    if failure is None or release.state not in (ReleaseState.FAILED, ReleaseState.ROLLED_BACK):
        return {}
    last = "\n".join(failure.log).encode()[-EXCERPT_BYTES:]
    return {"exit_code": failure.exit_code, "probe": failure.probe, "excerpt": last.decode(errors="ignore")}


def _downtime(release: Release) -> dict[str, str | float | None]:
    """Returns the fields `strategy` and `down_s` (seconds of downtime; None if there was none) for the event of a
    release that goes live; empty for any other release.
    """
    is_live = release.state is ReleaseState.LIVE
    return {"strategy": release.strategy, "down_s": release.down_s} if is_live else {}


def _memory(instance: Instance, release: Release) -> dict[str, int]:
    if instance.state is not InstanceState.FAILED:
        return {}
    maximum = release.manifest.resources.max_memory
    return {"oom_killed": instance.oom_killed, "memory_limit": instance.memory, "max_memory": maximum}


def apply(changes: Iterable[Change], world: World, failures: Mapping[str, ReleaseFailure], now: datetime) -> Commit:
    """Returns the records and events that result from `changes` to `world`, to be stored. `failures` holds instance id
    → evidence, for each MoveInstance with `fault`. Raises IllegalTransition if a change does not fit a state in
    `world`.
    """
    return _Application(world, failures, now).commit_of(changes)


class _Application:
    def __init__(self, world: World, failures: Mapping[str, ReleaseFailure], now: datetime) -> None:
        self._world = world
        self._failures = failures
        self._now = now
        self._commit = Commit()

    def commit_of(self, changes: Iterable[Change]) -> Commit:
        for change in changes:
            match change:
                case action.AddInstance():
                    self._add(change)
                case action.MoveInstance():
                    self._move_instance(change)
                case action.RecordAddress(instance_id, address):
                    self._put(self._instance(instance_id).model_copy(update={"address": address}))
                case action.RecordEnd(instance_id):
                    self._put(self._instance(instance_id).model_copy(update={"ended_at": self._now}))
                case action.DropInstance(instance_id):
                    self._commit.dropped.append(self._instance(instance_id))
                case action.MoveRelease():
                    self._move_release(change)
                case action.Switch(release_id):
                    self._put_release(self._release(release_id).model_copy(update={"switched_at": self._now}))
                case action.DrainOld(release_id):
                    self._drain_old(self._release(release_id))
                case action.RecordDowntime(release_id):
                    self._record_downtime(self._release(release_id))
                case action.Wait(release_id, reason):
                    self._put_release(self._release(release_id).model_copy(update={"reason": reason}))
                case action.StopClock(release_id, reason):
                    held = {"away_since": self._now, "reason": reason}
                    self._put_release(self._release(release_id).model_copy(update=held))
                case action.CreditClock(release_id, seconds):
                    self._put_release(releases.with_credit(self._release(release_id), seconds, self._now))
                case action.RaiseMemory(release_id, memory):
                    self._raise_memory(self._release(release_id), memory)
                case action.BeginRebuild(release_id, cause):
                    self._begin_rebuild(self._release(release_id), cause)
                case action.EndRebuild(release_id):
                    self._put_release(self._release(release_id).model_copy(update={"rebuild": None}))
                case action.RecordStopped(release_id):
                    self._record_stopped(self._release(release_id))
        return self._commit

    def _instance(self, instance_id: str) -> Instance:
        return self._commit.instances.get(instance_id) or self._world.instances[instance_id]

    def _release(self, release_id: str) -> Release:
        return self._commit.releases.get(release_id) or self._world.releases[release_id]

    def _latest(self) -> Iterable[Instance]:
        return {**self._world.instances, **self._commit.instances}.values()

    def _put(self, instance: Instance) -> None:
        self._commit.instances[instance.id] = instance

    def _put_release(self, release: Release) -> None:
        self._commit.releases[release.id] = release

    def _add(self, change: action.AddInstance) -> None:
        release = self._release(change.release)
        update: dict[str, Any] = {"instances_made": release.instances_made + 1}
        if not any(each.release == release.id and each.state in RUNNING for each in self._latest()):
            update["clock_from"] = self._now
        release = release.model_copy(update=update)
        self._put_release(release)
        wanted = desired(self._world.override, release.manifest.resources)
        restarts = crashes = oom_kills = 0
        if change.replaces is not None:
            failed = self._instance(change.replaces)
            crashes = 0 if is_helped_by(failed, wanted.memory) else crashes_in_a_row(failed)
            restarts, oom_kills = failed.restarts + 1, failed.oom_kills
            self._put(failed.model_copy(update={"replaced": True}))
        added = Instance(
            id=f"{release.id}-{release.instances_made}",
            release=release.id,
            app=release.app,
            environment=release.environment,
            commit=release.commit,
            state=InstanceState.STARTING,
            reason=f"in place of {change.replaces}" if change.replaces else f"{wanted.replicas} are wanted",
            created_at=self._now,
            changed_at=self._now,
            memory=wanted.memory,
            configuration=self._world.override.configuration,
            facts_digest=self._world.facts_digest,
            restarts=restarts,
            crashes=crashes,
            oom_kills=oom_kills,
        )
        self._put(added)
        self._commit.events.append(_instance_event(added, release, self._now))

    def _move_instance(self, change: action.MoveInstance) -> None:
        changed = instances.moved(self._instance(change.instance), change.state, change.reason, self._now)
        status = self._world.statuses.get(changed.id)
        if change.state is InstanceState.FAILED and status is not None:
            kills = changed.oom_kills + status.oom_kills
            changed = changed.model_copy(update={"oom_killed": status.oom_killed, "oom_kills": kills})
        self._put(changed)
        release = self._release(changed.release)
        if change.fault and release.failure is None:
            release = release.model_copy(update={"failure": self._failures[changed.id]})
            self._put_release(release)
        self._commit.events.append(_instance_event(changed, release, self._now))

    def _move_release(self, change: action.MoveRelease) -> None:
        before = self._release(change.release)
        release = releases.moved(before, change.state, change.reason, self._now)
        if before.state is ReleaseState.STARTING and release.state in releases.ENDED:
            self._restore_memory(release)
        if change.state is ReleaseState.STARTING:
            live = self._world.only(ReleaseState.LIVE)
            strategy = "stop-first" if is_stop_first(release, live) else "start-first"
            release = release.model_copy(update={"previous": live.id if live else None, "strategy": strategy})
        update = {
            "abort_rollout": release.abort_rollout or change.abort_rollout,
            "superseded_by": change.superseded_by,
            "platform_fault": change.platform_fault,
        }
        release = release.model_copy(update=update)
        self._put_release(release)
        self._commit.events.append(release_event(release, self._now))

    def _raise_memory(self, release: Release, memory: int) -> None:
        override = self._world.override
        if release.state is ReleaseState.STARTING:
            raised_from = override.memory if release.raised_to is None else release.raised_from
            self._put_release(release.model_copy(update={"raised_from": raised_from, "raised_to": memory}))
        self._commit.override = override.model_copy(update={"memory": memory})

    def _begin_rebuild(self, live: Release, cause: str) -> None:
        begun = live.model_copy(update={"rebuild": Rebuild(cause=cause, next_at=self._now)})
        self._put_release(begun)
        self._commit.events.append(artifact_event("gone", begun, begun.problem or "", self._now))

    def _record_stopped(self, live: Release) -> None:
        lifecycle = self._world.override.lifecycle
        update = {"lifecycle": lifecycle.model_copy(update={"has_ended": True})}
        self._commit.override = self._world.override.model_copy(update=update)
        self._commit.events.append(
            Event(
                type="environment.stopped",
                app=live.app,
                at=self._now,
                id=str(live.environment_id),
                reason=lifecycle.reason,
                notify=live.manifest.notify,
                release=live.id,
                environment=live.environment,
            )
        )

    def _restore_memory(self, release: Release) -> None:
        """Undoes the raise of the memory limit by a release that never went live, unless someone else has changed the
        limit since.
        """
        override = self._world.override
        if release.raised_to is not None and override.memory == release.raised_to:
            self._commit.override = override.model_copy(update={"memory": release.raised_from})

    def _drain_old(self, release: Release) -> None:
        served = any(i.release != release.id and i.state in RUNNING for i in self._world.instances.values())
        update = {"drain_old_at": self._now, "down_from": self._now if served else None}
        self._put_release(release.model_copy(update=update))

    def _record_downtime(self, release: Release) -> None:
        assert release.down_from is not None
        down_s = round((self._now - release.down_from).total_seconds(), 3)
        self._put_release(release.model_copy(update={"down_s": down_s}))
