"""Puts into words what a starting release waits for. Pure."""

from services.deployer.plan.observe import WAITS_FOR_PROXY, World
from services.deployer.plan.ready_deadline import awaited_part
from services.deployer.plan.stop_first import BEGUN, awaited_condition
from services.deployer.releases.release import Release
from shared.models import InstanceState

S = InstanceState


def wait_reason(world: World, starting: Release) -> str:
    """Returns what the release waits for now, in words for people."""
    if world.away:
        return awaited_part(world.away)
    if starting.switched_at is not None:
        draining = [i.id for i in world.instances.values() if i.state is S.DRAINING]
        return f"its instances are in the route; waits for {', '.join(draining)} to drain" if draining else BEGUN
    if (condition := awaited_condition(world, starting)) not in ("", BEGUN):
        return condition
    unready = [i for i in world.of(starting) if i.state is S.STARTING and not world.passes(i)]
    if unready:
        more = f" (and {len(unready) - 1} more)" if len(unready) > 1 else ""
        return f"waits for {unready[0].id}{more} to be ready: {world.last_seen(unready[0])}"
    if world.waits_for or condition:
        return world.waits_for or condition
    is_ready = any(i.state is S.READY for i in world.of(starting))
    return f"{WAITS_FOR_PROXY}its answer is on its way" if is_ready else BEGUN
