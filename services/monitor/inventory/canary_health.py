"""Decides whether a canary's ill instances are its own fault, by production's instances over the same seconds.
Instances are ill if they are unhealthy or failed. No I/O.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from services.monitor.rules.rule import Reading
from shared.models import InstanceRecord, InstanceState, Track
from shared.registry import ProbeRecord

ILL = frozenset({InstanceState.UNHEALTHY, InstanceState.FAILED})
WELL_FOR = timedelta(seconds=5)  # longer than the 3.6 s after which a hanging instance is found
UNNOTICED_FOR = timedelta(seconds=4)  # for so long, an instance without times of its probes may be ill unseen
PROBE_INTERVAL = timedelta(seconds=0.9)
SETTLES = timedelta(seconds=0.25)  # in which the end of production's instance is heard of, too
UNDECIDED_FOR = timedelta(seconds=10)
Instances = Mapping[str, Mapping[Track, list[InstanceRecord]]]


@dataclass
class Trouble:
    """Describes an instance of a canary that is ill: unhealthy or failed."""

    app: str
    release: str
    instance: str
    state: InstanceState
    at: datetime
    """Time at which the instance became ill, by the deployer's clock."""
    seen_at: datetime
    """Time at which the monitor heard of it."""
    reason: str
    began: datetime
    """Time at which the first of the failed probes began; `at` if that is not known."""
    is_read: bool = False
    """True once the registry of instances was read after the monitor heard of this."""
    is_blamed: bool = False
    compared: str = ""
    """Sentence about production, against which the canary was judged."""


@dataclass(frozen=True)
class ProductionHealth:
    """Holds what the last reading of the registry said of an app's production."""

    well: Sequence[tuple[InstanceRecord, ProbeRecord | None]] = ()
    """Ready instances whose last probe succeeded."""
    is_ill: bool = False
    """True if instances are known, and none of them is well. False also if nothing is known."""


class CanaryHealth:
    """Decides whether an ill instance (unhealthy or failed) is the canary's fault. It is not while production's
    instances are ill as well; it is if nothing is known of production.
    """

    def __init__(self) -> None:
        self._troubles: dict[str, Trouble] = {}
        self._production: dict[str, ProductionHealth] = {}
        self._ill_at: dict[str, datetime] = {}
        """Instance of production → time at which an event said that it is ill, which the registry may not say yet."""

    def record(
        self, instances: Instances, probes: Mapping[str, ProbeRecord], now: datetime, excused: Collection[str]
    ) -> None:
        """Judges the ill instances of canaries by what the registry listed at `now`: `instances` is app → track
        (production or canary) → instances, `probes` is instance id → its last probes. `excused` holds the ids of
        instances for which no canary is blamed: they were killed at their memory limit, which can still be raised.
        """
        self._ill_at = {name: at for name, at in self._ill_at.items() if now - at < UNDECIDED_FOR}
        apps = instances.keys() | {app for app, health in self._production.items() if health.is_ill}
        self._production = {
            app: health
            for app in apps
            if (health := self._health(app, instances.get(app, {}).get(Track.STABLE, []), probes)) is not None
        }
        listed = {record.id: record for tracks in instances.values() for record in tracks.get(Track.CANARY, [])}
        self._troubles = {
            name: each
            for name, each in self._troubles.items()
            if name not in excused and (not each.is_read or _lasts(each, listed.get(name), now))
        }
        for app, tracks in instances.items():
            for record in tracks.get(Track.CANARY, []):
                if record.state in ILL and record.id not in excused:
                    reason = f"instance {record.id} is {record.state}"
                    self.suspect(app, record.release, record.id, record.state, record.updated_at, reason, now)
        for trouble in self._troubles.values():
            if (times := probes.get(trouble.instance)) and times.failing_since:
                trouble.began = min(trouble.began, times.failing_since)
            self._judge(trouble, _is_still_ill(trouble, listed.get(trouble.instance)), now)

    def missed(self, now: datetime) -> None:
        """Records that the registry did not answer. An instance of a canary of whose illness the monitor has known for
        10 s then counts as the canary's fault.
        """
        for trouble in self._troubles.values():
            if now - trouble.seen_at >= UNDECIDED_FOR:
                trouble.is_blamed = True

    def suspect(
        self, app: str, release: str, instance: str, state: InstanceState, at: datetime, reason: str, now: datetime
    ) -> None:
        """Records that a canary's instance became ill at `at`. Whether that is the canary's fault is decided when the
        registry is read next.
        """
        known = self._troubles.get(instance)
        if known is None or (known.state, known.at) != (state, at):
            self._troubles[instance] = Trouble(app, release, instance, state, at, now, reason, began=at)

    def note_production(self, instance: str, at: datetime) -> None:
        """Records that an instance of production became ill at `at`, of which the registry may not know yet."""
        self._ill_at[instance] = at

    def forget(self, app: str) -> None:
        """Forgets that the app's production was ill, since it was stopped, replaced or removed."""
        self._production.pop(app, None)

    def reading(self, app: str, release: str) -> Reading | None:
        """Returns a reading with the number of the canary's instances that are ill through its own fault; its value is
        None while it is not decided whether there are any. Returns None if no instance is ill.
        """
        own = [each for each in self._troubles.values() if (each.app, each.release) == (app, release)]
        blamed = [each for each in own if each.is_blamed]
        if blamed:
            compared = next((each.compared for each in blamed if each.compared), "")
            evidence: dict[str, JsonValue] = {"ill": [each.instance for each in blamed]}
            if compared:
                evidence["production"] = compared
            return Reading(len(blamed), ", ".join(each.reason for each in blamed), evidence)
        if own:
            return Reading(None, f"{own[0].reason}; it is not known yet whether production is better")
        return None

    def _health(
        self, app: str, records: Sequence[InstanceRecord], probes: Mapping[str, ProbeRecord]
    ) -> ProductionHealth | None:
        """Returns the health of the app's production; None if nothing is known of it."""
        well, is_ill = [], False
        for record in records:
            times = probes.get(record.id)
            ill_at = self._ill_at.get(record.id)
            is_stale = ill_at is not None and record.updated_at <= ill_at
            if record.state in ILL or (record.state is InstanceState.READY and (is_stale or _fails(times))):
                is_ill = True
            elif record.state is InstanceState.READY:
                well.append((record, times))
        if well:
            return ProductionHealth(well)
        before = self._production.get(app)
        return ProductionHealth(is_ill=True) if is_ill or (before is not None and before.is_ill) else None

    def _judge(self, trouble: Trouble, is_still_ill: bool, now: datetime) -> None:
        trouble.is_read = True
        if trouble.is_blamed:
            return
        production = self._production.get(trouble.app)
        if production is None:
            trouble.is_blamed, trouble.compared = True, "nothing is known of production's instances"
            return
        for record, times in production.well:
            if (
                _was_ready_at_its_end(trouble, record, times, now)
                if trouble.state is InstanceState.FAILED
                else _was_well_meanwhile(trouble, is_still_ill, record, times, now)
            ):
                trouble.is_blamed, trouble.compared = True, f"instance {record.id} of production was well"
                return


def _fails(times: ProbeRecord | None) -> bool:
    return times is not None and times.failing_since is not None


def _was_well_meanwhile(
    trouble: Trouble, is_still_ill: bool, record: InstanceRecord, times: ProbeRecord | None, now: datetime
) -> bool:
    """Returns True if the instance of production was well for 5 s without a break, and in that time answered a probe
    that was sent after the canary's second failed one. The 5 s must lie before the canary's trouble, unless that lasts.
    So if an instance of production misses a probe in the same seconds, the canary is not blamed before that instance
    has been well again for 5 s.
    """
    if times is None or times.answered_at is None or times.well_since is None:
        answered_at, well_since = now - UNNOTICED_FOR, record.updated_at
    else:
        answered_at, well_since = times.answered_at, times.well_since
    known_well_at = well_since + WELL_FOR
    if answered_at < max(known_well_at, trouble.began + PROBE_INTERVAL):
        return False
    return is_still_ill or known_well_at <= trouble.began


def _was_ready_at_its_end(trouble: Trouble, record: InstanceRecord, times: ProbeRecord | None, now: datetime) -> bool:
    """Returns True if the instance of production had been ready for 5 s when the canary's process ended, and did not
    end in the same moment.
    """
    ready_since = min(record.updated_at, times.well_since) if times and times.well_since else record.updated_at
    return ready_since <= trouble.at - WELL_FOR and now - trouble.seen_at >= SETTLES


def _is_stale(trouble: Trouble, record: InstanceRecord) -> bool:
    """Returns True if the registry's record of the instance is older than the trouble, and still calls it ready."""
    return record.state is InstanceState.READY and record.updated_at <= trouble.at


def _is_still_ill(trouble: Trouble, record: InstanceRecord | None) -> bool:
    return record is not None and (record.state in ILL or _is_stale(trouble, record))


def _lasts(trouble: Trouble, record: InstanceRecord | None, now: datetime) -> bool:
    """Returns True while the trouble counts: until its instance is ready again or gone. Trouble of an instance that has
    ended, or of which the registry does not know yet, counts until it is decided whose fault it is, for 10 s at most.
    """
    if record is not None and record.state in ILL:
        return True
    if record is not None and record.state is InstanceState.READY and not _is_stale(trouble, record):
        return False
    is_open = not trouble.is_blamed or (record is not None and _is_stale(trouble, record))
    return is_open and now - trouble.seen_at < UNDECIDED_FOR
