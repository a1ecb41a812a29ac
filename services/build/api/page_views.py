"""Renders the HTML pages of builds from templates. Changes no state."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from services.build.builds.build import Build
from services.build.builds.build_query import Filter, SearchResult
from services.build.builds.timeline import timeline
from services.build.gates.gate import number
from services.build.logs.build_log import BuildLogs
from services.build.logs.log_page import LogPart, read_part
from shared.clock import now
from shared.config import SharedSettings
from shared.models import BuildState, Environment
from shared.web.pages import Templates

TAIL_BYTES = 64 * 1024


class BuildPages:
    """Renders the HTML pages of builds. In each method, `hostname` is the host in the request's URL, from which links
    to the other services are made.
    """

    def __init__(self, logs: BuildLogs, settings: SharedSettings) -> None:
        self._logs = logs
        self._templates = Templates(Path(__file__).parent / "templates", settings)

    def history(self, found: SearchResult, asked: Filter, apps: Sequence[str], hostname: str | None) -> str:
        """Renders one page of the history of builds. `found` holds the builds to show; `asked` is the filter, whose
        values the search form shows again. The page links to the histories of the first 50 of `apps`, the names of all
        apps.
        """
        given = [
            ("app", asked.app),
            ("branch", asked.branch),
            ("environment", asked.environment),
            ("commit", asked.commit),
        ]
        query = [(name, value) for name, value in given if value] + [("state", state) for state in asked.states]
        return self._templates.render(
            "history.html",
            here="Builds",
            hostname=hostname,
            found=found,
            asked=asked,
            apps=apps,
            states=list(BuildState),
            environments=list(Environment),
            older=urlencode([*query, ("cursor", str(found.following))]) if found.following else None,
        )

    def log(self, build: Build, line: int, hostname: str | None) -> str:
        """Renders the page of the build's log that holds line number `line`; each page has 1000 lines. Blocks while it
        reads the log.
        """
        try:
            part = read_part(self._logs.path(build.id), line)
        except FileNotFoundError:
            part = LogPart(1, [], 0)
        return self.part("log.html", build, hostname, part=part)

    def part(self, template: str, build: Build, hostname: str | None, **context: Any) -> str:
        """Renders `template`, which shows one aspect of a build, with `context` as additional variables."""
        return self._templates.render(
            template, here="Builds", hostname=hostname, build=build, number=number, signed=signed, **context
        )

    def build(self, build: Build, hostname: str | None) -> str:
        """Renders the build's page, with the last 64 KiB of its log."""
        size = self._logs.size(build.id)
        start = max(0, size - TAIL_BYTES)
        text = self._logs.read(build.id, start, TAIL_BYTES).decode(errors="replace")
        if start:
            text = text.partition("\n")[2]
        return self.part(
            "build.html", build, hostname, log=text, size=size, cut=start > 0, times=timeline(build, now())
        )


def signed(value: float | None) -> str:
    """Formats a number with its sign: `+1.5`, `-2`, `0`; empty for None."""
    if value is None:
        return ""
    text = f"{value:+.2f}".rstrip("0").removesuffix(".")
    return text if text.strip("+-0.") else "0"
