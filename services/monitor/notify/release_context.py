"""Remembers facts of release events (addresses, commits), for messages about later events that lack them. Pure."""

from collections.abc import Mapping

from pydantic import Field

from shared.models import Environment, Event, View

COMMITS_KEPT = 20


class ReleaseContext(View):
    """Holds facts of the last releases in one environment of an app, for messages about later events."""

    notify: list[str] = Field([], description="Addresses in the last release's manifest.")
    commits: dict[str, str] = Field({}, description="Commits of the last 20 releases, by release id.")


ReleaseContexts = Mapping[str, ReleaseContext]  # `<app>:<environment>` → its context


def extra(event: Event, name: str) -> str:
    """Returns a field that only some events have, as text; empty if the event does not have it."""
    value = (event.model_extra or {}).get(name)
    return "" if value is None else str(value)


def environment_of(event: Event) -> str:
    """Returns the event's environment. An event of a rollout, or of an app's alert, that names none is about the app's
    canary, so `canary` is returned. For any other event that names none, returns an empty text.
    """
    about_canaries = bool(event.app) and event.type.startswith(("rollout.", "alert."))
    return extra(event, "environment") or (Environment.CANARY if about_canaries else "")


def release_of(event: Event) -> str:
    """Returns the id of the release that the event is about; empty if there is none. A rollout event has the id of its
    release.
    """
    return event.id if event.type.startswith(("rollout.", "release.")) else extra(event, "release")


def learned(contexts: ReleaseContexts, event: Event) -> dict[str, ReleaseContext]:
    """Returns `<app>:<environment>` → updated context, if the event is of a release and changes its context; else an
    empty mapping.
    """
    environment = extra(event, "environment")
    if not event.type.startswith("release.") or not environment:
        return {}
    name = _key(event.app, environment)
    before = contexts.get(name, ReleaseContext())
    commits = {**before.commits, event.id: extra(event, "commit")}
    after = ReleaseContext(notify=event.notify, commits=dict(list(commits.items())[-COMMITS_KEPT:]))
    return {} if after == before else {name: after}


def addresses(contexts: ReleaseContexts, event: Event) -> list[str]:
    """Returns the addresses of the manifest: those in the event, else those of the environment's last release. For a
    build event without an environment, returns those of any environment of the app that has had a release.
    """
    environment = environment_of(event)
    for each in [environment] if environment else list(Environment):
        if not event.notify and (context := contexts.get(_key(event.app, each))):
            return context.notify
    return event.notify


def addresses_of(contexts: ReleaseContexts, app: str, environment: str) -> list[str]:
    """Returns the addresses in the manifest of the environment's last release."""
    return contexts.get(_key(app, environment), ReleaseContext()).notify


def commit_of(contexts: ReleaseContexts, app: str, environment: str, release: str) -> str:
    """Returns the commit of the release (40 hex digits); empty if unknown."""
    return contexts.get(_key(app, environment), ReleaseContext()).commits.get(release, "")


def _key(app: str, environment: str) -> str:
    return f"{app}:{environment}"
