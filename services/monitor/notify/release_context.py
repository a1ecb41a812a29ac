"""What the events of releases have told of an app's environment, for events that do not tell it themselves. Pure."""

from collections.abc import Mapping

from pydantic import Field

from shared.models import Environment, Event, View

COMMITS_KEPT = 20


class ReleaseContext(View):
    """`notify`: the manifest's addresses of the last release; `commits`: release → commit, of the last 20 releases."""

    notify: list[str] = Field([])
    commits: dict[str, str] = Field({})


Places = Mapping[str, ReleaseContext]  # `<app>:<environment>` → what is known of it


def extra(event: Event, name: str) -> str:
    """A field that only some events have, as text; empty if it has none."""
    value = (event.model_extra or {}).get(name)
    return "" if value is None else str(value)


def environment_of(event: Event) -> str:
    """Empty for a build that goes nowhere. Rollouts are about canaries; alerts without an environment are older ones,
    which were about canaries too.
    """
    about_canaries = event.type.startswith(("rollout.", "alert."))
    return extra(event, "environment") or (Environment.CANARY if about_canaries else "")


def release_of(event: Event) -> str:
    """Id of the release that the event is about, or empty. Rollouts have the id of theirs."""
    return event.id if event.type.startswith(("rollout.", "release.")) else extra(event, "release")


def learned(places: Places, event: Event) -> dict[str, ReleaseContext]:
    """The places of which the event tells something new, as they are known with it."""
    environment = extra(event, "environment")
    if not event.type.startswith("release.") or not environment:
        return {}
    name = _place(event.app, environment)
    before = places.get(name, ReleaseContext())
    commits = {**before.commits, event.id: extra(event, "commit")}
    after = ReleaseContext(notify=event.notify, commits=dict(list(commits.items())[-COMMITS_KEPT:]))
    return {} if after == before else {name: after}


def addresses(places: Places, event: Event) -> list[str]:
    """Whom the manifest names: as the event says; or else as the place's last release said. A build has none before
    its manifest could be read: then those of its app.
    """
    environment = environment_of(event)
    for each in [environment] if environment else list(Environment):
        if not event.notify and (known := places.get(_place(event.app, each))):
            return known.notify
    return event.notify


def addresses_of(places: Places, app: str, environment: str) -> list[str]:
    """Whom the manifest of the place's last release names."""
    return places.get(_place(app, environment), ReleaseContext()).notify


def commit_of(places: Places, app: str, environment: str, release: str) -> str:
    """The commit that the release runs: 40 hex digits, or empty."""
    return places.get(_place(app, environment), ReleaseContext()).commits.get(release, "")


def _place(app: str, environment: str) -> str:
    return f"{app}:{environment}"
