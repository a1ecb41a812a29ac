"""Defines what a message about an event is composed from: the event, facts of its release, links, figures. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.monitor.notify.message import Fact
from services.monitor.notify.release_context import ReleaseContexts, commit_of, environment_of, extra, release_of
from shared.manifest import size
from shared.models import Event

PLAIN_MOST = 2**20  # a whole number from here on is taken as bytes


@dataclass(frozen=True)
class Links:
    """Holds the base URLs of the services' pages, `http://host:port`."""

    build: str
    proxy: str
    monitor: str


@dataclass(frozen=True)
class Subject:
    """Holds an event with the release contexts and links that the message about it needs."""

    event: Event
    contexts: ReleaseContexts
    links: Links

    @property
    def target(self) -> str:
        """Returns app and environment, for example `notes canary`."""
        return f"{self.event.app} {environment_of(self.event)}".rstrip()

    def facts(self, *more: Fact) -> list[Fact]:
        environment, release = environment_of(self.event), release_of(self.event)
        commit = extra(self.event, "commit") or commit_of(self.contexts, self.event.app, environment, release)
        return [
            ("app", self.event.app),
            ("environment", environment),
            ("release", release),
            ("commit", commit),
            *more,
            ("at", f"{self.event.at:%Y-%m-%d %H:%M:%S} UTC"),
        ]


def figure(value: Any) -> str:
    """Formats a figure for people. A whole number of at least 2^20 is taken as bytes and shown in MiB; a decimal number
    gets three digits.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= PLAIN_MOST:
        return size(value)
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else "" if value is None else str(value)


def facts_of(fields: Mapping[str, Any]) -> list[Fact]:
    """Returns (label, value) of each field. A field that is a mapping becomes one line (`requests 100, errors 31`),
    without its null and nested values.
    """
    return [(str(name).replace("_", " "), _line(value)) for name, value in fields.items()]


def _line(value: Any) -> str:
    if not isinstance(value, dict):
        return figure(value)
    return ", ".join(
        f"{str(name).replace('_', ' ')} {figure(inner)}"
        for name, inner in value.items()
        if inner is not None and not isinstance(inner, dict | list)
    )


def by_instance(inputs: Any) -> dict[str, Any]:
    """Returns instance id → its figures, from the inputs of a scaling decision. If `inputs` is one mapping instead of a
    list, returns it unchanged.
    """
    if not isinstance(inputs, list):
        return mapping(inputs)
    items = [mapping(item) for item in inputs]
    return {str(item.pop("id", number)): item for number, item in enumerate(items, start=1)}


def mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
