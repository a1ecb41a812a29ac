"""Tracks the instances in the registry: which release is live in production, and how many instances are healthy."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.monitor.rules.rule import Reading
from shared.models import TRACK_OF, Environment, InstanceRecord, InstanceState, Track, release_number

ILL = frozenset({InstanceState.UNHEALTHY, InstanceState.FAILED})
EMPTY_FOR = timedelta(seconds=5)
EXCUSED_FOR = timedelta(minutes=10)
Instances = Mapping[str, Mapping[Track, list[InstanceRecord]]]


class Inventory:
    """Holds the instances of every app, as the registry last listed them. A release stays live, even if the registry is
    empty or does not answer, until another one has a ready instance or `end()` is called.
    """

    def __init__(self) -> None:
        self._instances: Instances = {}
        self._live: dict[str, str] = {}
        self._empty_since: dict[str, datetime] = {}
        self._excused: dict[str, datetime] = {}
        self.answers = False

    def record(self, instances: Instances, now: datetime) -> None:
        """Stores the instances that the registry listed at `now`: app → track → instances."""
        self._instances, self.answers = instances, True
        for app in instances:
            if ready := self.ready(app):
                self._live[app] = max(ready, key=release_number)
        empty = {app for app in self._live if not self._records(app, Environment.PRODUCTION)}
        self._empty_since = {app: self._empty_since.get(app, now) for app in empty}
        self._excused = {name: at for name, at in self._excused.items() if at > now - EXCUSED_FOR}

    def missed(self) -> None:
        """Records that the registry did not answer. The last instances are kept, and their health is unknown."""
        self.answers = False
        self._empty_since.clear()

    def remember(self, app: str, release: str) -> None:
        """Sets the app's live release in production, unless one is already known."""
        self._live.setdefault(app, release)

    def end(self, release: str) -> None:
        """Records that the release has ended, so that it is no longer its app's live one."""
        self._live = {app: live for app, live in self._live.items() if live != release}

    def forget(self, app: str) -> None:
        """Forgets the app's live release, because its production was removed."""
        self._live.pop(app, None)

    def excuse(self, instance: str, now: datetime) -> None:
        """Excludes the instance from `health` for 10 minutes: it was killed at its memory limit, and the limit can
        still be raised.
        """
        self._excused[instance] = now

    def apps(self) -> set[str]:
        """Returns the apps that have an instance or a remembered live release."""
        return self._instances.keys() | self._live.keys()

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

    def health(self, app: str, environment: Environment, release: str, now: datetime) -> Reading:
        """Returns the number of the release's unhealthy or failed instances. It is 1 if production has had no instance
        in the registry for 5 s. The value is None if the registry does not answer or nothing is known.
        """
        if not self.answers:
            return Reading(None, "the deployer does not answer")
        own = self._own(app, environment, release)
        if own:
            ill = {record.id: record.state for record in own if record.state in ILL and record.id not in self._excused}
            states = ", ".join(f"{name} is {state}" for name, state in ill.items())
            return Reading(len(ill), f"instance {states}" if ill else "every instance is well", {"ill": [*ill]})
        since = self._empty_since.get(app)
        if environment == Environment.PRODUCTION and since is not None and now - since >= EMPTY_FOR:
            return Reading(1, f"no instance of {release} is in the registry", {"empty_since": since.isoformat()})
        return Reading(None, f"the registry has no instance of {release}")

    def _own(self, app: str, environment: Environment, release: str) -> list[InstanceRecord]:
        return [record for record in self._records(app, environment) if record.release == release]

    def _records(self, app: str, environment: Environment) -> list[InstanceRecord]:
        return self._instances.get(app, {}).get(TRACK_OF[environment], [])
