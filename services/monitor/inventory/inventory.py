"""Tracks the instances in the registry: which release is live in production, and how many instances are healthy."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.monitor.inventory.canary_health import ILL, CanaryHealth, Instances
from services.monitor.inventory.live_releases import LiveReleases
from services.monitor.rules.rule import Reading
from shared.models import TRACK_OF, Environment, InstanceRecord, InstanceState, Track, release_number
from shared.registry import ProbeRecord

EMPTY_FOR = timedelta(seconds=5)
UNREADY_FOR = timedelta(seconds=30)  # a restart of an app with a volume stops the old instance first
EXCUSED_FOR = timedelta(minutes=10)


class Inventory:
    """Holds the instances of every app, as the registry last listed them. A release stays live, even if the registry is
    empty or does not answer, until another one has a ready instance or `end()` is called.
    """

    def __init__(self, releases: LiveReleases) -> None:
        self._instances: Instances = {}
        self._live = releases
        self._empty_since: dict[str, datetime] = {}
        self._unready_since: dict[str, datetime] = {}
        self._reasons: dict[str, str] = {}
        self._excused: dict[str, datetime] = {}
        self.canary_health = CanaryHealth()
        self.answers = False

    async def load_if_possible(self) -> None:
        """Loads, once, which releases were live for an earlier process, unless Redis takes too long."""
        await self._live.load_if_possible()

    def record(self, instances: Instances, now: datetime, probes: Mapping[str, ProbeRecord] | None = None) -> None:
        """Stores the instances that the registry listed at `now`: app → track → instances; `probes` holds instance id →
        its last probes.
        """
        self._instances, self.answers = instances, True
        for app in instances:
            if ready := self.ready(app):
                self._live.set(app, max(ready, key=release_number))
        empty = {app for app in self._live.apps() if not self._records(app, Environment.PRODUCTION)}
        self._empty_since = {app: self._empty_since.get(app, now) for app in empty}
        self._unready_since = {app: self._unready_since.get(app, now) for app in self.without_ready()}
        self._reasons = {app: reason for app, reason in self._reasons.items() if app in self._unready_since}
        self._excused = {name: at for name, at in self._excused.items() if at > now - EXCUSED_FOR}
        self.canary_health.record(instances, probes or {}, now, self._excused)

    def missed(self, now: datetime) -> None:
        """Records that the registry did not answer. The last instances are kept, and their health is unknown."""
        self.answers = False
        self.canary_health.missed(now)
        self._empty_since.clear()
        self._unready_since.clear()

    def remember(self, app: str, release: str) -> None:
        """Sets the app's live release in production, unless one is known already."""
        if self._live.get(app) is None:
            self._live.set(app, release)

    def replace(self, app: str, release: str) -> None:
        """Sets the app's live release in production to the one that the deployer has named."""
        self._live.set(app, release)

    def end(self, release: str) -> None:
        """Forgets the release as its app's live one, since the release has ended."""
        for app in [app for app in self._live.apps() if self._live.get(app) == release]:
            self.canary_health.forget(app)
        self._live.end(release)

    def forget(self, app: str) -> None:
        """Forgets the app's live release, since its production was removed."""
        self.canary_health.forget(app)
        self._live.forget(app)

    def without_ready(self) -> set[str]:
        """Returns the apps whose live release has no ready instance in production, and no successor that starts."""
        return {app for app in self._live.apps() if not self.ready(app) and not self._has_successor(app)}

    def explain(self, app: str, reason: str) -> None:
        """Sets the reason why no instance of the app's production is ready, until one is; empty if it is not known."""
        self._reasons[app] = reason

    def excuse(self, instance: str, now: datetime) -> None:
        """Excludes the instance from `health` for 10 minutes: it was killed at its memory limit, and the limit can
        still be raised.
        """
        self._excused[instance] = now

    def apps(self) -> set[str]:
        """Returns the apps that have an instance or a remembered live release."""
        return self._instances.keys() | self._live.apps()

    def with_canary(self) -> set[str]:
        """Returns the apps that have an instance on the canary track."""
        return {app for app, tracks in self._instances.items() if tracks.get(Track.CANARY)}

    def live(self, app: str) -> str | None:
        """Returns production's live release: the newest one with a ready instance; if there is none, the last one that
        had one; None if unknown.
        """
        return self._live.get(app)

    def ready(self, app: str) -> set[str]:
        """Returns the releases with a ready instance in production."""
        records = self._records(app, Environment.PRODUCTION)
        return {record.release for record in records if record.state == InstanceState.READY}

    def ready_instances(self, app: str, environment: Environment, release: str) -> list[str]:
        """Returns the ids of the release's ready instances."""
        own = self._own(app, environment, release)
        return [record.id for record in own if record.state == InstanceState.READY]

    def last_ready_at(self, app: str, environment: Environment, release: str) -> datetime | None:
        """Returns the time at which the last of the release's ready instances became ready; None if none is ready."""
        own = self._own(app, environment, release)
        return max((record.updated_at for record in own if record.state == InstanceState.READY), default=None)

    def health(self, app: str, environment: Environment, release: str, now: datetime) -> Reading:
        """Returns the number of the release's unhealthy or failed instances; of a canary's, only those that are ill
        through its own fault, while production's are well. The number is 1 if production has had no instance in the
        registry for 5 s, or none that is ready for 30 s. The value is None if the registry does not answer or nothing
        is known.
        """
        ill_canary = self.canary_health.reading(app, release) if environment == Environment.CANARY else None
        if ill_canary is not None and (ill_canary.value or self.answers):
            return ill_canary
        if not self.answers:
            return Reading(None, "the deployer does not answer")
        own = self._own(app, environment, release)
        if own and environment == Environment.PRODUCTION:
            ill = {record.id: record.state for record in own if record.state in ILL and record.id not in self._excused}
            states = ", ".join(f"{name} is {state}" for name, state in ill.items())
            if ill:
                return Reading(len(ill), f"instance {states}", {"ill": [*ill]})
        if environment == Environment.PRODUCTION and release == self._live.get(app) and app in self._unready_since:
            return self._outage(app, release, now)
        if own:
            return Reading(0, "every instance is well", {"ill": []})
        return Reading(None, f"the registry has no instance of {release}")

    def _outage(self, app: str, release: str, now: datetime) -> Reading:
        why = f": {self._reasons[app]}" if self._reasons.get(app) else ""
        empty, unready = self._empty_since.get(app), self._unready_since[app]
        if empty is not None and now - empty >= EMPTY_FOR:
            return Reading(1, f"no instance of {release} is in the registry{why}", {"empty_since": empty.isoformat()})
        if now - unready >= UNREADY_FOR:
            description = f"no instance of {release} was ready for {(now - unready).total_seconds():.0f} s{why}"
            return Reading(1, description, {"unready_since": unready.isoformat()})
        return Reading(None, f"no instance of {release} is ready")

    def _has_successor(self, app: str) -> bool:
        live = release_number(self._live.get(app) or "")
        records = self._records(app, Environment.PRODUCTION)
        return any(
            record.state == InstanceState.STARTING and release_number(record.release) > live for record in records
        )

    def _own(self, app: str, environment: Environment, release: str) -> list[InstanceRecord]:
        return [record for record in self._records(app, environment) if record.release == release]

    def _records(self, app: str, environment: Environment) -> list[InstanceRecord]:
        return self._instances.get(app, {}).get(TRACK_OF[environment], [])
