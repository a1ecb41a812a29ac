"""A stored notifier: its name, its URL, and the events that it wants. Pure."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pydantic import Field

from shared.models import View


class Recipient(View):
    """A stored notifier. `url` is an apprise URL, which may hold secrets and reach several people; `events` are
    patterns, an empty list means all.
    """

    name: str
    url: str
    events: list[str] = Field([])
    enabled: bool = True


def wanted(recipients: Iterable[Recipient], event: str) -> list[str]:
    """Returns the URLs of the enabled recipients that want events of this type."""
    return [
        each.url
        for each in recipients
        if each.enabled and (not each.events or any(fnmatchcase(event, pattern) for pattern in each.events))
    ]
