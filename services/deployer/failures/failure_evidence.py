"""Collects the evidence for the failure of an instance, and masks secrets in the reasons that are stored."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import datetime

from services.deployer.drivers.driver import Driver, DriverError
from services.deployer.failures.failure_words import failure_reason, output_excerpt
from services.deployer.plan.action import Change, MoveInstance, MoveRelease, StopClock, Wait
from services.deployer.plan.observe import World
from services.deployer.releases.capability_hint import capability_hint
from shared.manifest import health_check
from shared.models import ReleaseFailure
from shared.security.mask import Mask

log = logging.getLogger(__name__)

LOG_LINES = 5000
LOOK_S = 5.0


def masked(change: Change, mask: Mask) -> Change:
    """Returns the change with secrets masked in its reason, if it has one."""
    if isinstance(change, MoveInstance | MoveRelease | StopClock | Wait):
        return replace(change, reason=mask(change.reason))
    return change


async def failure_of(change: MoveInstance, world: World, driver: Driver, mask: Mask, now: datetime) -> ReleaseFailure:
    """Returns the evidence for the failure of an instance that `change` records: the reason, the exit code, the result
    of the last probe, and an excerpt of the log. `world` holds the state of the instance's environment. Information
    that the driver cannot give is left out.
    """
    instance = world.instances[change.instance]
    run = world.releases[instance.release].manifest.run
    status, health = world.statuses.get(instance.id), world.health.get(instance.id)
    try:
        lines = await driver.logs(instance.id, LOG_LINES)
    except DriverError as error:
        lines = [f"no log: {error}"]
    listening = None
    if status is not None and status.running:
        with contextlib.suppress(DriverError, TimeoutError):
            listening = await asyncio.wait_for(driver.listening(instance.id), LOOK_S)
    reason = failure_reason(change.reason, instance.address, run, listening)
    hint = capability_hint(lines, status.capabilities if status else None)
    return ReleaseFailure(
        instance=instance.id,
        reason=mask(f"{reason}; {hint}" if hint else reason),
        at=now,
        exit_code=status.exit_code if status else None,
        probe=mask(health.detail) if health else "",
        log=[mask(line) for line in output_excerpt(lines, health_check(run.health).path)],
    )


def unforeseen(what: str, error: Exception) -> str:
    """Logs an exception of a driver that the driver's interface does not define. Returns a reason for the failure of
    `what`, such as "the start of notes-r9-1". The caller treats the exception as a failure of the instance and does not
    retry, because each retry could fail in the same way.
    """
    log.error("%s failed in a way that nobody foresaw", what, exc_info=error)
    return f"an error of the platform itself: {type(error).__name__}: {error}; the deployer's log has the details"
