"""Decides of which events people are notified, and composes the messages. Pure. People are notified of builds that
failed (and of the first one that succeeds again), releases that failed or were rolled back, rollouts that were aborted,
wait for a person or were promoted by themselves, and every change of scaling. Alerts are grouped first
(`dispatch/alert_group.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.monitor.notify.message import Fact, Message, compose
from services.monitor.notify.release_context import ReleaseContexts, commit_of, environment_of, extra, release_of
from shared.manifest import Stage, size
from shared.models import Environment, Event, View

SUPERSEDED = "superseded"
REFUSED = "its rollout was refused"  # the deployer's reason for a canary whose rollout was not opened
RELEASE_FAILED = "release failed"  # the proxy's reason for a rollout whose release failed
PROMOTION = "promotion "  # beginning of the proxy's reason for a promotion that failed or was refused
PLAIN_MOST = 2**20  # a whole number from here on is taken as bytes


class Notification(View):
    """Holds a message about an app's environment. `event` is the type of the event that it reports."""

    event: str
    app: str
    environment: str
    message: Message


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


def notification_of(event: Event, contexts: ReleaseContexts, links: Links) -> Notification | None:
    """Returns the notification about the event; None if people are not notified of such an event."""
    compose_for = COMPOSERS.get(event.type)
    message = compose_for(Subject(event, contexts, links)) if compose_for else None
    if message is None:
        return None
    return Notification(event=event.type, app=event.app, environment=environment_of(event), message=message)


def plain_notification(event: Event, links: Links) -> Notification | None:
    """Returns a notification with only the bare facts, for an event whose message could not be composed; None for types
    of events without a message.
    """
    if event.type not in COMPOSERS:
        return None
    message = compose(f"{event.app}: {event.type} {event.id}", [event.reason], [], links.build)
    return Notification(event=event.type, app=event.app, environment=environment_of(event), message=message)


def _build(subject: Subject) -> Message | None:
    """Returns the message about a build. Returns None for a failure that its release reports, for a success after a
    success, for a pre-receive build, whose result git shows to the pusher, and for the rebuild of an artifact, about
    which there is an alert.
    """
    event = subject.event
    if (event.model_extra or {}).get("door") is True or extra(event, "rebuilds"):
        return None
    recovered = (event.model_extra or {}).get("recovered") is True
    if event.type == "build.success" and not recovered:
        return None
    if event.type == "build.failure" and extra(event, "stage") == Stage.DEPLOY and extra(event, "release"):
        return None
    outcome = {"build.success": "has recovered", "build.failure": "failed"}.get(event.type, "could not be run")
    branch = extra(event, "branch")
    texts = ["It is the platform's fault, not the commit's."] if event.type == "build.error" else []
    return compose(
        f"{event.app}: build {event.id} {outcome}" + (f" on {branch}" if branch else "") + f": {event.reason}",
        [event.reason, *texts],
        subject.facts(("branch", branch), ("stage", extra(event, "stage"))),
        f"{subject.links.build}/builds/{event.id}",
        excerpt=extra(event, "excerpt"),
        excerpt_of="First failing lines",
    )


def _release(subject: Subject) -> Message | None:
    """Returns the message about a release that failed, or that was rolled back in production; else None. The rollback
    of a canary is reported with its rollout. Only if the proxy refused the rollout, it is reported here.
    """
    event = subject.event
    failed = event.type == "release.failed"
    in_production = environment_of(event) == Environment.PRODUCTION
    if not (failed or in_production or event.reason.startswith(REFUSED)):
        return None
    build = extra(event, "build")
    return compose(
        f"{subject.target}: release {event.id} {'failed' if failed else 'was rolled back'}: {event.reason}",
        [event.reason],
        subject.facts(("build", build), ("exit code", extra(event, "exit_code")), ("probe", extra(event, "probe"))),
        f"{subject.links.build}/builds/{build}" if build else f"{subject.links.build}/?app={event.app}",
        excerpt=extra(event, "excerpt"),
        excerpt_of="Its last lines",
    )


def _aborted(subject: Subject) -> Message | None:
    """Returns the message about an aborted rollout; None if a newer canary replaced it, or if the message about its
    release reports it.
    """
    event = subject.event
    if event.reason == SUPERSEDED or event.reason.startswith(RELEASE_FAILED):
        return None
    fields = event.model_extra or {}
    evidence = _mapping(fields.get("evidence"))
    traffic = _mapping(evidence.pop("traffic", None)) or _mapping(fields.get("traffic"))
    description = str(evidence.pop("words", ""))
    return compose(
        f"{subject.target}: {event.id} was aborted: {event.reason}",
        [event.reason, description if description not in event.reason else ""],
        subject.facts(*_facts(evidence), *_facts(_mapping(traffic.get("tracks", traffic)))),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
        excerpt=extra(event, "excerpt"),
        excerpt_of="Its last lines",
    )


def _paused(subject: Subject) -> Message | None:
    """Returns the message about a rollout that waits for a person; None for other pauses, which end by themselves."""
    event = subject.event
    # Proxies of earlier versions do not say it.
    if (event.model_extra or {}).get("resumes_by_itself", not event.reason.startswith(PROMOTION)):
        return None
    return compose(
        f"{subject.target}: {event.id} is paused: {event.reason}",
        [event.reason, "The canary keeps its visitors. Resume the rollout, promote it, or abort it."],
        subject.facts(*_steps(event)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def _progressing(subject: Subject) -> Message | None:
    """Returns the message about a rollout whose steps have all ended and which a person has to promote; else None."""
    event = subject.event
    fields = event.model_extra or {}
    if fields.get("passed") is not True or fields.get("promote") == "automatic":
        return None
    return compose(
        f"{subject.target}: {event.id} has passed and waits for its promotion: {event.reason}",
        [event.reason, "The canary keeps its visitors. Promote it, or abort it."],
        subject.facts(*_steps(event)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def _promoted(subject: Subject) -> Message | None:
    """Returns the message about a canary that was promoted by itself; None if a person promoted it."""
    event = subject.event
    fields = event.model_extra or {}
    if fields.get("promote") != "automatic" or fields.get("step") != fields.get("steps"):
        return None
    return compose(
        f"{subject.target}: {event.id} was promoted to production: {event.reason}",
        [event.reason, "All steps of its rollout had ended, and its manifest says that it is then promoted."],
        subject.facts(*_steps(event)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def _steps(event: Event) -> list[Fact]:
    fields = event.model_extra or {}
    if not isinstance(steps := fields.get("steps"), int) or not isinstance(step := fields.get("step"), int):
        return []
    return [("step", f"{min(step + 1, steps)} of {steps}"), ("share", f"{fields.get('weight')} %")]


def _scaled(subject: Subject) -> Message | None:
    event = subject.event
    fields = event.model_extra or {}
    before, after = figure(fields.get("from")), figure(fields.get("to"))
    return compose(
        f"{subject.target}: scaled from {before} to {after}: {event.reason}",
        [event.reason],
        subject.facts(("from", before), ("to", after), *_facts(_by_instance(fields.get("inputs")))),
        f"{subject.links.monitor}/policies/{event.app}/{environment_of(event)}/decisions",
    )


COMPOSERS: Mapping[str, Callable[[Subject], Message | None]] = {
    "build.failure": _build,
    "build.error": _build,
    "build.success": _build,
    "release.failed": _release,
    "release.rolled_back": _release,
    "rollout.aborted": _aborted,
    "rollout.paused": _paused,
    "rollout.progressing": _progressing,
    "rollout.promoted": _promoted,
    "scaling.decided": _scaled,
}
NOTIFIED = (*COMPOSERS, "alert.firing", "alert.resolved")


def figure(value: Any) -> str:
    """Formats a figure for people. A whole number of at least 2^20 is taken as bytes and shown in MiB; a decimal number
    gets three digits.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= PLAIN_MOST:
        return size(value)
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else "" if value is None else str(value)


def _facts(fields: Mapping[str, Any]) -> list[Fact]:
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


def _by_instance(inputs: Any) -> dict[str, Any]:
    """Returns instance id → figures of a scaling decision. If `inputs` is one mapping instead of a list, returns it
    unchanged.
    """
    if not isinstance(inputs, list):
        return _mapping(inputs)
    items = [_mapping(item) for item in inputs]
    return {str(item.pop("id", number)): item for number, item in enumerate(items, start=1)}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
