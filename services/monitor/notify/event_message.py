"""Decides of which events people are notified, and composes the messages. Pure. People are notified of builds that
failed (and of the first one that succeeds again), releases that failed or were rolled back, rollouts that were aborted,
wait for a person or were promoted automatically, canary analyses that stay uncertain or whose checks give no answer,
and every change of scaling. Alerts are grouped first (`dispatch/alert_group.py`).
"""

from collections.abc import Callable, Mapping

from services.monitor.notify import rollout_message
from services.monitor.notify.message import Message, compose
from services.monitor.notify.release_context import ReleaseContexts, environment_of, extra
from services.monitor.notify.subject import Links, Subject, by_instance, facts_of, figure
from shared.manifest import Stage
from shared.models import Environment, Event, View

REFUSED = "its rollout was refused"  # the deployer's reason for a canary whose rollout was not opened


class Notification(View):
    """Holds a message about an app's environment. `event` is the type of the event that it reports."""

    event: str
    app: str
    environment: str
    message: Message


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
    """Returns the message about a build. Returns None for a failure about which the message about its release reports,
    for a success after a success, for a pre-receive build, whose result git shows to the pusher, and for the rebuild of
    an artifact, about which there is an alert.
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


def _scaled(subject: Subject) -> Message | None:
    event = subject.event
    fields = event.model_extra or {}
    before, after = figure(fields.get("from")), figure(fields.get("to"))
    return compose(
        f"{subject.target}: scaled from {before} to {after}: {event.reason}",
        [event.reason],
        subject.facts(("from", before), ("to", after), *facts_of(by_instance(fields.get("inputs")))),
        f"{subject.links.monitor}/policies/{event.app}/{environment_of(event)}/decisions",
    )


COMPOSERS: Mapping[str, Callable[[Subject], Message | None]] = {
    "build.failure": _build,
    "build.error": _build,
    "build.success": _build,
    "release.failed": _release,
    "release.rolled_back": _release,
    "rollout.aborted": rollout_message.aborted,
    "rollout.paused": rollout_message.paused,
    "rollout.progressing": rollout_message.progressing,
    "rollout.promoted": rollout_message.promoted,
    "analysis.inconclusive": rollout_message.held,
    "analysis.error": rollout_message.unanswered,
    "scaling.decided": _scaled,
}
NOTIFIED = (*COMPOSERS, "alert.firing", "alert.resolved")
