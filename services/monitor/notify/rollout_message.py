"""Composes the messages about rollouts, with what the analysis of the canary found in plain words. Pure."""

from services.monitor.notify.analysis_words import found, opened_at, verdict_of
from services.monitor.notify.message import Fact, Message, compose
from services.monitor.notify.release_context import extra
from services.monitor.notify.subject import Subject, facts_of, mapping
from shared.models import Event

SUPERSEDED = "superseded"
RELEASE_FAILED = "release failed"  # the proxy's reason for a rollout whose release failed
PROMOTION = "promotion "  # beginning of the proxy's reason for a promotion that failed or was refused
TRIES = 4  # calls of an own metric or hook without an answer, after which people are told


def aborted(subject: Subject) -> Message | None:
    """Returns the message about an aborted rollout; None if a newer canary replaced it, or if the message about its
    release reports it.
    """
    event = subject.event
    if event.reason == SUPERSEDED or event.reason.startswith(RELEASE_FAILED):
        return None
    fields = event.model_extra or {}
    evidence = mapping(fields.get("evidence"))
    if (verdict := verdict_of(evidence)) is not None:
        return compose(
            f"{subject.target}: {event.id} was aborted: {event.reason}",
            [event.reason, *found(verdict, opened_at(evidence)), "Its visitors have production again."],
            subject.facts(("share", f"{fields.get('weight')} %")),
            _page(subject)[1],
        )
    traffic = mapping(evidence.pop("traffic", None)) or mapping(fields.get("traffic"))
    description = str(evidence.pop("words", ""))
    return compose(
        f"{subject.target}: {event.id} was aborted: {event.reason}",
        [event.reason, description if description not in event.reason else ""],
        subject.facts(*facts_of(evidence), *facts_of(mapping(traffic.get("tracks", traffic))), _page(subject)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
        excerpt=extra(event, "excerpt"),
        excerpt_of="Its last lines",
    )


def paused(subject: Subject) -> Message | None:
    """Returns the message about a rollout that waits for a person; None for other pauses, which end by themselves."""
    event = subject.event
    # Proxies of earlier versions do not say it.
    if (event.model_extra or {}).get("resumes_by_itself", not event.reason.startswith(PROMOTION)):
        return None
    return _of_steps(
        subject, "is paused", "The canary keeps its visitors. Resume the rollout, promote it, or abort it."
    )


def progressing(subject: Subject) -> Message | None:
    """Returns the message about a rollout whose steps have all ended and which a person has to promote; else None."""
    event = subject.event
    fields = event.model_extra or {}
    if fields.get("passed") is not True or fields.get("promote") == "automatic":
        return None
    return _of_steps(
        subject, "has passed and waits for its promotion", "The canary keeps its visitors. Promote it, or abort it."
    )


def promoted(subject: Subject) -> Message | None:
    """Returns the message about a canary that was promoted automatically; None if a person promoted it."""
    event = subject.event
    fields = event.model_extra or {}
    if fields.get("promote") != "automatic" or fields.get("step") != fields.get("steps"):
        return None
    return _of_steps(
        subject,
        "was promoted to production",
        "All steps of its rollout had ended, and its manifest says that it is then promoted.",
    )


def held(subject: Subject) -> Message | None:
    """Returns the message about a rollout whose last step goes on after its time, because the canary analysis is not
    certain.
    """
    event = subject.event
    fields = event.model_extra or {}
    verdict = verdict_of(fields)
    return compose(
        f"{subject.target}: {event.id} has not passed yet: {event.reason}",
        [
            f"The time of its last step is over, and the step goes on: {event.reason}",
            *(found(verdict, opened_at(fields)) if verdict else []),
            "The canary keeps its visitors, and passes by itself as soon as harm is ruled out. Promote it, or abort "
            "it, if you know enough.",
        ],
        subject.facts(("share", f"{fields.get('weight')} %"), _page(subject)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def unanswered(subject: Subject) -> Message | None:
    """Returns the message about one of an app's own metrics or hooks that gives no answer that can be judged."""
    event = subject.event
    is_after = extra(event, "kind") == "after"
    effect = "It is called again." if is_after else "The rollout's step does not end before it answers."
    return compose(
        f"{subject.target}: {event.reason}",
        [f"{event.reason}, {TRIES} times in a row. That says nothing about the canary, and aborts nothing. {effect}"],
        subject.facts(_page(subject)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def _of_steps(subject: Subject, what: str, effect: str) -> Message:
    """Returns the message about a rollout. `what` follows the release's id in the subject line, such as `is paused`;
    `effect` is a sentence on what that means for the canary, and what the reader may do.
    """
    event = subject.event
    return compose(
        f"{subject.target}: {event.id} {what}: {event.reason}",
        [event.reason, effect],
        subject.facts(*_steps(event), _page(subject)),
        f"{subject.links.proxy}/apps/{event.app}/rollout",
    )


def _page(subject: Subject) -> Fact:
    return "analysis", f"{subject.links.monitor}/releases/{subject.event.id}/analysis"


def _steps(event: Event) -> list[Fact]:
    fields = event.model_extra or {}
    if not isinstance(steps := fields.get("steps"), int) or not isinstance(step := fields.get("step"), int):
        return []
    return [("step", f"{min(step + 1, steps)} of {steps}"), ("share", f"{fields.get('weight')} %")]
