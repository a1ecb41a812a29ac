"""Defines a stored notifier: its name, its URL, and the events that are sent to it. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import Field

from shared.models import View


class Recipient(View):
    """Holds a notifier as it is stored: a URL, and the types of events that are sent to it."""

    name: str
    url: str = Field(description="An apprise URL; it may hold secrets and reach several people.")
    events: list[str] = Field([], description="Patterns of event types; an empty list means all.")
    enabled: bool = True


def wanted(recipients: Iterable[Recipient], event: str) -> list[str]:
    """Returns the URLs of the enabled recipients to which events of this type are sent."""
    return [
        each.url
        for each in recipients
        if each.enabled and (not each.events or any(fnmatchcase(event, pattern) for pattern in each.events))
    ]
