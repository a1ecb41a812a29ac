"""Translates a commit status into the request that each forge expects. Pure. The formats are from GitHub's REST API
("Commit statuses"), Gitea's swagger (`repoCreateStatus`) and GitLab's "Commits API".
"""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from services.build.builds.status import Status, StatusVerdict
from services.build.git.remote_source import Forge, Source, place

V = StatusVerdict
GITHUB_HOST, GITHUB_API = "github.com", "https://api.github.com"
LIMITS = {Forge.GITHUB: 140, Forge.GITEA: 255, Forge.GITLAB: 255}  # longest description, in characters
_USUAL = {V.RUNNING: "pending", V.CANCELLED: "error"}
_GITLAB = {V.FAILURE: "failed", V.ERROR: "failed", V.CANCELLED: "canceled"}


@dataclass(frozen=True)
class StatusRequest:
    """Describes a POST request to a forge. Its headers hold the access token."""

    url: str
    headers: dict[str, str]
    body: dict[str, str]


def status_request(source: Source, token: str, commit: str, status: Status, page: str) -> StatusRequest:
    """Returns the request that sets `status` on the commit. `page` is the URL of the build's page."""
    limit = LIMITS[source.forge]
    description = status.description if len(status.description) <= limit else f"{status.description[: limit - 1]}…"
    names = _GITLAB if source.forge is Forge.GITLAB else _USUAL
    body = {"state": names.get(status.verdict, str(status.verdict)), "target_url": page, "description": description}
    headers = {"Accept": "application/json"}
    if source.forge is Forge.GITLAB:
        url, named = _gitlab_url(source, commit), {"name": status.context}
        headers["PRIVATE-TOKEN"] = token
    else:
        url, named = _usual_url(source, commit), {"context": status.context}
        scheme = "Bearer" if source.forge is Forge.GITHUB else "token"
        headers["Authorization"] = f"{scheme} {token}"
    return StatusRequest(url, headers, body | named)


def _usual_url(source: Source, commit: str) -> str:
    """Returns the URL for commit statuses at GitHub or Gitea."""
    where = place(source)
    above, _, repository = where.path.rpartition("/")
    prefix, _, owner = above.rpartition("/")
    if source.forge is Forge.GITEA:
        api = (source.api_url or f"{where.root}/{prefix}").rstrip("/") + "/api/v1"
    elif source.api_url:
        api = source.api_url.rstrip("/")
    else:
        api = GITHUB_API if urlsplit(where.root).hostname == GITHUB_HOST else f"{where.root}/api/v3"
    return f"{api}/repos/{quote(owner, safe='')}/{quote(repository, safe='')}/statuses/{commit}"


def _gitlab_url(source: Source, commit: str) -> str:
    """Returns the URL for commit statuses at GitLab. If a GitLab is served below a path of its host, `api_url` must
    name that path.
    """
    where = place(source)
    root = (source.api_url or where.root).rstrip("/")
    below = urlsplit(root).path.strip("/")
    project = where.path.removeprefix(f"{below}/") if below else where.path
    return f"{root}/api/v4/projects/{quote(project, safe='')}/statuses/{commit}"
