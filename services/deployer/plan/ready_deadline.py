"""Limits how long a release waits for its instances to become ready and to get into the proxy's route. Pure. The time
counts from the moment at which the release's oldest running instance was added. It does not count while a part of the
platform is unavailable: the proxy or its Envoy, the driver's engine, or Redis. If such times add up to 10 minutes, the
release fails, marked as a fault of the platform.
"""

from collections.abc import Iterator
from datetime import datetime

from services.deployer.plan.action import Change, CreditClock, MoveInstance, MoveRelease, StopClock
from services.deployer.plan.observe import WAITS_FOR_PROXY, World, discount_s, over_time
from services.deployer.releases.instance import RUNNING
from services.deployer.releases.release import Release, away_s, waited_s
from shared.models import InstanceState, ReleaseState
from shared.proxy_models import RouteState

S = InstanceState
AWAY_LIMIT_S = 600.0
LEFT_S = 15.0


def keep_clock(world: World, starting: Release, now: datetime) -> Iterator[Change]:
    """Yields the change that stops or resumes the counting of the release's waiting time, when a part of the platform
    becomes unavailable or available. Fails the release if such parts were unavailable for too long, unless its
    instances already get visitors; then it waits on.
    """
    if world.away and starting.away_since is None:
        yield StopClock(starting.id, awaited_part(world.away))
    elif world.away and starting.switched_at is None and away_s(starting, now) >= AWAY_LIMIT_S:
        why = f"a part of the platform was down for {AWAY_LIMIT_S / 60:g} min in all: {world.away}"
        yield MoveRelease(starting.id, ReleaseState.FAILED, why, platform_fault=True)
    elif not world.away and starting.away_since is not None:
        yield CreditClock(starting.id, (now - starting.away_since).total_seconds())
    elif starting.clock_from is None and any(each.state in RUNNING for each in world.of(starting)):
        yield CreditClock(starting.id, 0)  # stored by an earlier version: its clock starts now


def awaited_part(away: str) -> str:
    """Returns the reason to store for a release that waits for a part of the platform. `away` names the part, and why
    it is unavailable.
    """
    return f"{away}; this time does not count"


def end_overdue(world: World, starting: Release, now: datetime) -> Iterator[Change]:
    """Yields the end of each instance for which the release has waited longer than the manifest's `run.ready_within`.
    An instance that is ready drains rather than stops, because Envoy may have begun to send it visitors.
    """
    if starting.switched_at is not None or world.away:
        return
    limit_s, waiting_s = starting.manifest.run.ready_within, waited_s(starting, now)
    more_s = discount_s(world.cpu_waited_s, waiting_s)
    if waiting_s - more_s < limit_s:
        return
    for instance in world.of(starting):
        if instance.state is S.STARTING and not world.passes(instance):
            seen = world.last_seen(instance)
            yield MoveInstance(instance.id, S.FAILED, over_time("ready", limit_s, seen, more_s), fault=True)
        elif instance.state is S.READY and world.route(instance.id) is not RouteState.ROUTABLE:
            seen = world.waits_for.removeprefix(WAITS_FOR_PROXY) or "the proxy has not answered yet"
            yield MoveInstance(instance.id, S.DRAINING, over_time("in the route", limit_s, seen, more_s), fault=True)


def credit_after_restart(world: World, starting: Release, now: datetime) -> Iterator[Change]:
    """Yields the change that takes time off the wait of a starting release when a new process of the deployer first
    sees it, since the deployer may have been down for long. If an instance of the release was not started yet, the
    whole wait is taken off; otherwise so much that 15 s are left for a probe and the proxy's answer. The time taken off
    counts as time in which the platform was unavailable, at most 10 minutes in all, so that repeated restarts do not
    extend the wait without end. Only the first such time is not limited: the deployer may have been down longer, or the
    clock may have been set forward.
    """
    if starting.away_since is not None or starting.clock_from is None:
        return
    limit_s, waiting_s = starting.manifest.run.ready_within, waited_s(starting, now)
    running = [instance for instance in world.of(starting) if instance.state in RUNNING]
    if any(instance.id not in world.statuses for instance in running):
        seconds = waiting_s
    else:
        seconds = waiting_s - max(0.0, limit_s - LEFT_S)
    seconds = min(seconds, waiting_s)
    if before_s := away_s(starting, now):
        seconds = min(seconds, AWAY_LIMIT_S - before_s)
    if seconds > 0:
        yield CreditClock(starting.id, seconds)
