"""Decides the next changes of one environment from stored and observed facts. Pure: no I/O, no clock. A release goes
through these conditions: all new instances are ready → the proxy routes to them → (of a canary: the rollout is open) →
it is stored that the old ones may go (`Switch`) → old instances drain → the proxy no longer routes to them → they are
stopped. With volumes, the old ones are stopped first (`stop_first.py`). A new process of the deployer continues from
the facts, wherever the previous process ended.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from services.deployer.plan.action import AddInstance, Change, DropInstance, MoveInstance, MoveRelease, Switch, Wait
from services.deployer.plan.lifecycle import drop_instances, end_instances, end_releases, is_outdated, record_stopped
from services.deployer.plan.observe import ObservationLimits, World, observe
from services.deployer.plan.plan_work import is_settled
from services.deployer.plan.ready_deadline import end_overdue, keep_clock
from services.deployer.plan.rebuild import begin_rebuild, end_rebuild
from services.deployer.plan.stop_first import BEGUN, blockers, drain_old, record_downtime, take_out
from services.deployer.plan.wait_reason import wait_reason
from services.deployer.releases.environment import desired
from services.deployer.releases.instance import ENDED, RUNNING, Instance, may_restart_at
from services.deployer.releases.release import ENDED as RELEASE_ENDED
from services.deployer.releases.release import Release
from services.deployer.releases.rollout_request import key_fault
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
ENDED_KEPT = 5


def plan(world: World, limits: ObservationLimits, now: datetime) -> list[Change]:
    """Returns the changes that instances have undergone by themselves; if there are none, the changes that the deployer
    decides. The caller stores them and calls again, until none are returned; then `plan_work` yields the background
    work.
    """
    return observe(world, limits, now) or decide(world, limits, now)


def decide(world: World, limits: ObservationLimits, now: datetime) -> list[Change]:
    """Returns the next changes that the deployer decides on. Its rules are asked in a fixed order, and the first one
    that has changes gives the result. The caller applies the changes and calls again, so that later rules see their
    effect.
    """
    if not world.override.lifecycle.runs:
        ends = [end_releases(world), end_instances(world), end_rebuild(world), record_stopped(world)]
        return _first([*ends, drop_instances(world), _drop_ended(world)])
    starting, live = world.only(ReleaseState.STARTING), world.only(ReleaseState.LIVE)
    deciders: list[Iterable[Change]] = [
        _start_newest(world, starting),
        _end_faulty(world, starting, live),
        *([keep_clock(world, starting, now), end_overdue(world, starting, now)] if starting is not None else []),
        _stop_ended(world),
        begin_rebuild(world),
        record_downtime(world),
    ]
    if starting is not None:
        deciders += [_fill_starting(world, starting, now), _switch_over(world, starting, live)]
    if live is not None and (starting is None or not (starting.switched_at or starting.drain_old_at)):
        due = to_replace(world, limits, now)
        fresh = [i for i in _running(world, live) if i not in due and _is_as_ordered(world, live, i)]
        have = [*fresh, *_postponed(world, live, fresh, due)]
        if live.rebuild is None:
            deciders += [_add_missing(world, live, have, now), _maintain_live(world, live, fresh, due)]
        else:  # none can be added, so what runs serves on as it is
            deciders.append(_maintain_live(world, live, _running(world, live), []))
    if starting is not None:
        deciders.append(_explain_wait(world, starting))
    deciders.append(_drop_ended(world))
    return _first(deciders)


def _first(deciders: Iterable[Iterable[Change]]) -> list[Change]:
    return next((changes for decider in deciders if (changes := list(decider))), [])


def _start_newest(world: World, starting: Release | None) -> Iterator[Change]:
    """Retires all pending releases but the newest. The newest one starts, unless another release is starting. It
    replaces a starting release of which no instance gets visitors yet.
    """
    pending = [release for release in world.releases.values() if release.state is ReleaseState.PENDING]
    if not pending:
        return
    newest = max(pending, key=lambda release: release.number)
    for release in pending:
        if release is not newest:
            why = f"superseded by {newest.id} before it started"
            yield MoveRelease(release.id, ReleaseState.RETIRED, why, superseded_by=newest.id)
    if starting is None:
        yield MoveRelease(newest.id, ReleaseState.STARTING, BEGUN)
    elif _may_be_superseded(world, starting):
        why = f"superseded by {newest.id} before any of its instances was routable"
        yield MoveRelease(starting.id, ReleaseState.RETIRED, why, superseded_by=newest.id)


def _may_be_superseded(world: World, starting: Release) -> bool:
    """Returns True if a newer release may replace this starting one: it is no automatic rollback, which production
    needs at once, and as far as is known the proxy routes to none of its instances. (An instance that does get visitors
    is drained before it is stopped.)
    """
    routes = {world.route(instance.id) for instance in world.of(starting)}
    return starting.switched_at is None and starting.replaces_faulty is None and RouteState.ROUTABLE not in routes


def _end_faulty(world: World, starting: Release | None, live: Release | None) -> Iterator[Change]:
    if starting is not None and starting.switched_at is None:
        failure = f"{starting.failure.instance}: {starting.failure.reason}" if starting.failure else ""
        unfit = world.checked.get(starting.id, "") if starting.drain_old_at is None else ""
        keyless = "" if starting.rollout_opened else key_fault(starting, world.override)
        if why := failure or world.refused or unfit or keyless:
            back = f"; {live.id} is started again" if live is not None and starting.drain_old_at is not None else ""
            yield MoveRelease(starting.id, ReleaseState.FAILED, f"{why}{back}")
    if live is not None and live.failure is not None and live.environment is Environment.CANARY:
        # A failed canary's visitors go to production, so its environment needs no earlier release.
        why = f"{live.failure.instance}: {live.failure.reason}"
        yield MoveRelease(live.id, ReleaseState.ROLLED_BACK, why, abort_rollout=True)


def _stop_ended(world: World) -> Iterator[Change]:
    for instance in world.instances.values():
        release = world.releases[instance.release]
        if instance.state in RUNNING and release.state in RELEASE_ENDED:
            yield take_out(instance, f"{release.id} is {release.state}: {release.reason}")


def _fill_starting(world: World, starting: Release, now: datetime) -> Iterator[Change]:
    if starting.strategy == "stop-first":
        yield from drain_old(world, starting)
    if starting.strategy == "start-first" or starting.drain_old_at is not None:
        yield from _add_missing(world, starting, _running(world, starting), now)


def _explain_wait(world: World, starting: Release) -> Iterator[Change]:
    if starting.reason != (reason := wait_reason(world, starting)):
        yield Wait(starting.id, reason)
    reason = f"waits for {starting.id} to be live: {reason}"
    for release in world.releases.values():
        if release.state is ReleaseState.PENDING and release.reason != reason:
            yield Wait(release.id, reason)


def _running(world: World, release: Release) -> list[Instance]:
    return [instance for instance in world.of(release) if instance.state in RUNNING]


def to_replace(world: World, limits: ObservationLimits, now: datetime) -> list[Instance]:
    """Returns those running instances of the live release that the platform itself wants to replace: because they have
    been unhealthy for `unhealthy_kept_s` seconds, or because the variables that the platform gave them are outdated.
    The environment replaces them one after the other, and only while `World.may_replace` is True, since many
    environments may need this at the same time.
    """
    live = world.only(ReleaseState.LIVE)
    if live is None:
        return []
    patience = timedelta(seconds=limits.unhealthy_kept_s)
    return [
        instance
        for instance in _running(world, live)
        if _is_as_ordered(world, live, instance)
        and (
            (instance.state is S.UNHEALTHY and now - instance.changed_at >= patience)
            or instance.facts_digest not in ("", world.facts_digest)
        )
    ]


def _is_as_ordered(world: World, live: Release, instance: Instance) -> bool:
    """Returns True if the instance has the current configuration and memory limit, and was created after the last
    restart of the environment. Another memory limit does not matter if the driver can change it while the instance
    runs.
    """
    wanted = desired(world.override, live.manifest.resources)
    has_memory = instance.memory == wanted.memory or instance.id not in world.fixed_memory
    is_current = instance.configuration == world.override.configuration and not is_outdated(world, instance)
    return is_current and has_memory


def _add_missing(world: World, release: Release, have: list[Instance], now: datetime) -> Iterator[Change]:
    """Yields the changes that add the instances that the release lacks if it has those in `have`. A failed instance is
    replaced only after its back-off. Yields none while other instances must end first, for example because they use the
    same volume.
    """
    if blockers(world, release):
        return
    wanted = desired(world.override, release.manifest.resources)
    missing = wanted.replicas - len(have)
    failed = [i for i in world.of(release) if i.state is S.FAILED and not i.replaced]
    at_once = max(0, missing - len(failed))
    for _ in range(at_once):
        yield AddInstance(release.id)
    due = [instance for instance in failed if may_restart_at(instance, wanted.memory) <= now]
    for instance in due[: max(0, missing - at_once)]:
        yield AddInstance(release.id, replaces=instance.id)


def _switch_over(world: World, starting: Release, live: Release | None) -> Iterator[Change]:
    mine = _running(world, starting)
    wanted = desired(world.override, starting.manifest.resources).replicas
    fresh = [instance for instance in mine if instance.state is S.STARTING]
    if fresh and len(mine) >= wanted and all(world.passes(instance) for instance in fresh):
        yield from (MoveInstance(instance.id, S.READY, "its health path answers") for instance in fresh)
        return
    others = [instance for instance in world.instances.values() if instance.release != starting.id]
    if starting.switched_at is None:
        if is_settled(world, starting):
            yield Switch(starting.id)
        return
    leaving = [instance for instance in others if instance.state in RUNNING]
    if leaving:
        ready = sum(instance.state is S.READY for instance in mine)
        yield from _drain(leaving, ready - _draining(world), f"replaced by {starting.id}")
    elif all(world.route(i.id) in (RouteState.DRAINING, RouteState.ABSENT) for i in others if i.state is S.DRAINING):
        yield MoveRelease(starting.id, ReleaseState.LIVE, "its instances are in the route, the old ones out of it")
        if live is not None:
            yield _end_replaced(live, starting)


def _end_replaced(live: Release, by: Release) -> MoveRelease:
    if by.replaces_faulty == live.id and live.failure is not None:
        return MoveRelease(live.id, ReleaseState.ROLLED_BACK, f"{live.failure.reason}; {by.id} took its place")
    return MoveRelease(live.id, ReleaseState.RETIRED, f"replaced by {by.id}")


def _postponed(world: World, live: Release, fresh: list[Instance], due: list[Instance]) -> list[Instance]:
    """Returns those instances of `due` (to be replaced) for which no replacement may be added yet: all but one. That
    one waits too if the environment may not replace now, or already has one instance more than it wants. `fresh` holds
    the running instances that need no replacement.
    """
    wanted = desired(world.override, live.manifest.resources).replicas
    allowed = int(world.may_replace and len(fresh) + len(due) <= wanted)
    missing = wanted - len(fresh)
    return due[allowed:][: max(0, missing - allowed)]


def _maintain_live(world: World, live: Release, fresh: list[Instance], due: list[Instance]) -> Iterator[Change]:
    """Yields the next changes of the live release's instances. Instances in `fresh` (up to date) become ready once
    their probe succeeds, and drain if there are too many. Outdated ones, and those in `due` (to be replaced), drain
    once there is a replacement for them.
    """
    ready_by_now = [i for i in fresh if i.state is S.STARTING and world.passes(i)]
    if ready_by_now:
        yield from (MoveInstance(instance.id, S.READY, "its health path answers") for instance in ready_by_now)
        return
    wanted = desired(world.override, live.manifest.resources).replicas
    ready = sum(instance.state is S.READY for instance in fresh)
    if len(fresh) > wanted:
        worst_first = sorted(
            fresh, key=lambda i: (i.state is S.READY, i.state is S.UNHEALTHY, -i.created_at.timestamp())
        )
        surplus = worst_first[: len(fresh) - wanted]
        yield from _drain(surplus, (ready - _draining(world)) // 2, f"{wanted} instances are wanted")
        return
    outdated = [instance for instance in _running(world, live) if instance not in fresh]
    if live.manifest.volumes:
        leaving = [instance for instance in outdated if world.may_replace or instance not in due]
        yield from (take_out(instance, "makes room for another instance") for instance in leaving)
        return
    in_route = [i for i in fresh if i.state is S.READY and world.route(i.id) is RouteState.ROUTABLE]
    room = ready - _draining(world)
    if len(in_route) >= wanted:
        leaving = outdated
    elif any(instance.state in (S.READY, S.STARTING) for instance in (*fresh, *due)):
        leaving = due[: max(0, len(in_route) + len(due) - wanted)]
    else:  # no instance is well, neither this one nor a replacement
        leaving = due[: max(0, len(fresh) + len(due) - wanted)]
        room = len(leaving)
    yield from _drain(leaving, room, "another instance took its place")


def _draining(world: World) -> int:
    return sum(instance.state is S.DRAINING for instance in world.instances.values())


def _drain(leaving: list[Instance], room: int, reason: str) -> Iterator[Change]:
    """Yields the changes that take the instances `leaving` out of the route: starting ones at once, of all others at
    most `room`, so that enough instances stay ready.
    """
    in_route = [instance for instance in leaving if instance.state is not S.STARTING]
    for instance in leaving:
        if instance.state is S.STARTING or instance in in_route[: max(0, room)]:
            yield take_out(instance, reason)


def _drop_ended(world: World) -> Iterator[Change]:
    """Yields the deletion of the records of ended instances that are not needed any more. The newest five stay, because
    people may want their logs.
    """
    over = [
        instance
        for instance in world.instances.values()
        if instance.state in ENDED
        and instance.ended_at is not None
        and instance.id not in world.published
        and (
            instance.state is S.STOPPED or instance.replaced or world.releases[instance.release].state in RELEASE_ENDED
        )
    ]
    over.sort(key=lambda instance: instance.created_at, reverse=True)
    for instance in over[ENDED_KEPT:]:
        yield DropInstance(instance.id)
