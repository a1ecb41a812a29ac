"""One layout, one stylesheet, one navigation for every service's pages."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from shared.config import ServiceName, SharedSettings
from shared.manifest import size

TEMPLATES = Path(__file__).parent / "templates"


class Entry(NamedTuple):
    """One entry of the navigation: a page of some service."""

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
    """A service's templates in `folder`, which extend `layout.html`; everything is escaped.

    Filters: `utc` (a datetime to the second), `size` (bytes → `64 MiB`), `percent` (0.25 → `25 %`).
    """

    def __init__(self, folder: Path, settings: SharedSettings) -> None:
        loader = ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(TEMPLATES)])
        self._environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {"size": size, "percent": percent, "utc": utc}
        self._settings = settings

    def render(self, template: str, *, here: str, hostname: str | None, **context: Any) -> str:
        """`here`: the title of the page's entry in the navigation. `hostname`: that of the request's URL; the other
        services' pages are on the same host, on their own ports.
        """
        host = hostname or self._settings.host
        host = f"[{host}]" if ":" in host else host
        links = [
            (entry.title, f"//{host}:{self._settings.port(entry.service)}{entry.path}", entry.title == here)
            for entry in NAVIGATION
        ]
        return self._environment.get_template(template).render(links=links, **context)


def wants_page(accept: str | None) -> bool:
    """Whether the client that sent this `Accept` header is a browser: then it gets the page instead of JSON."""
    return (accept or "").startswith("text/html")


def percent(share: float | None) -> str:
    """0.25 → `25 %`; None → `-`."""
    return "-" if share is None else f"{share:.0%}".replace("%", " %")


def utc(at: datetime) -> str:
    """`2026-05-01 12:00:00`; beside it the page says UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
