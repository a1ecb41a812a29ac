"""Renders the pages of all services with one layout, one stylesheet and one navigation. Imports `config` and
`manifest`. Imported by build, monitor, flags and proxy.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from shared.config import ServiceName, SharedSettings
from shared.manifest import size

TEMPLATES = Path(__file__).parent / "templates"


class Entry(NamedTuple):
    """Describes an entry of the navigation, which links to a page of a service."""

    title: str
    service: ServiceName
    path: str


NAVIGATION = (
    Entry("Builds", "build", "/"),
    Entry("Canaries", "proxy", "/"),
    Entry("Instances", "monitor", "/"),
    Entry("Alerts", "monitor", "/alerts"),
    Entry("Flags", "flags", "/"),
)


class Templates:
    """Renders the templates in `folder`, which extend `layout.html`. All values are escaped. It adds the filters `utc`
    (a datetime to the second), `size` (`64 MiB` for a number of bytes) and `percent` (`25 %` for 0.25).
    """

    def __init__(self, folder: Path, settings: SharedSettings) -> None:
        loader = ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(TEMPLATES)])
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {"size": size, "percent": percent, "utc": utc}
        self._settings = settings

    def render(self, template: str, *, here: str, hostname: str | None, **context: Any) -> str:
        """Returns the page as HTML. `here` is the title of the page's entry in the navigation. `hostname` is the host
        in the request's URL, which links to the other services' pages use (None: the host from the settings).
        """
        links = [
            (entry.title, self.link(hostname, entry.service, entry.path), entry.title == here) for entry in NAVIGATION
        ]
        return self._environment.get_template(template).render(links=links, **context)

    def link(self, hostname: str | None, service: ServiceName, path: str) -> str:
        """Returns the URL of a page of any service. `hostname` is the host in the request's URL (None: the host from
        the settings).
        """
        host = hostname or self._settings.host
        return f"//{f'[{host}]' if ':' in host else host}:{self._settings.port(service)}{path}"


def wants_page(accept: str | None) -> bool:
    """Returns True if the Accept header is a browser's, which gets HTML instead of JSON."""
    return (accept or "").startswith("text/html")


def percent(share: float | None) -> str:
    """Formats a share for people: `25 %` for 0.25, `-` for None."""
    return "-" if share is None else f"{share:.0%}".replace("%", " %")


def utc(at: datetime) -> str:
    """Formats a UTC time as `2026-05-01 12:00:00`."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
