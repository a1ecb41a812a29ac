"""Drives a test app on a stack: pushes it, calls the services about it, and probes it from outside."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.config import ServiceName
from shared.models import Environment
from stack.clients.git import Pushed, Repository
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack

NOTES = Path(__file__).parents[2] / "examples" / "notes"
LIVE_WITHIN_S = 90.0
BRANCH = {Environment.PRODUCTION: "release", Environment.CANARY: "dev"}


class RequestRefused(Exception):
    """Reports that a service answered with an error, or that a pushed commit did not become live; the text has the
    details.
    """


@dataclass
class AppDelivery:
    """Holds the result of a push whose commit became live."""

    commit: str
    release: str
    push_s: float
    """Seconds from the push until a client outside the stack first received an answer of the commit."""
    release_s: float
    """Seconds from the creation of the release (its artifact exists by then) until that first answer."""


class Deployable:
    """Drives an app with its repository in `folder`. Its URLs end without a slash."""

    def __init__(self, stack: LocalStack, app: str, folder: Path) -> None:
        settings = stack.settings
        self.app = app
        self.host = f"{app}.{settings.domain}"
        self.public = f"http://{settings.host}:{settings.public_port}"
        self.production = f"http://{settings.host}:{settings.production_port}"
        self.canary = f"http://{settings.host}:{settings.canary_port}"
        self.repository = Repository(folder, f"{settings.url('build')}/git/{app}.git", stack.token)
        self._stack = stack

    def address(self, url: str) -> str:
        """Returns the URL as people open it: with the app's host name, by which Envoy finds the app."""
        return urlsplit(url)._replace(netloc=f"{self.host}:{urlsplit(url).port}").geturl()

    def deliver(self, environment: Environment) -> AppDelivery:
        """Pushes HEAD to the environment's branch and waits until the environment's port serves the commit. Raises
        RequestRefused if it does not become live.
        """
        url = self.production if environment is Environment.PRODUCTION else self.canary
        push = self.repository.push(BRANCH[environment])

        def settled() -> bool:
            return self.sees(url, push.commit) or push.ended

        try:
            push_s = wait_for(settled, f"{push.commit[:8]} on {url}", LIVE_WITHIN_S)
        except TimeoutError as error:
            raise RequestRefused(f"{error}\n{indented(push.finish(0))}") from error
        seen_at = datetime.now(UTC)
        pushed = push.finish()
        if not self.sees(url, push.commit):
            raise RequestRefused(f"{push.commit[:8]} is not live on {url}\n{indented(pushed)}")
        release = self.latest_release(environment)
        release_s = (seen_at - datetime.fromisoformat(release["created_at"])).total_seconds()
        return AppDelivery(push.commit, release["id"], push_s, release_s)

    def sees(self, url: str, commit: str) -> bool:
        """Returns True if a new request to `url` is answered by the commit."""
        return probe(url, "/version", self.host).commit == commit

    def latest_release(self, environment: Environment) -> dict[str, Any]:
        releases = self.call("deployer", "GET", f"/apps/{self.app}/environments/{environment}/releases")
        newest: dict[str, Any] = releases["items"][0]
        return newest

    def rollout(self, action: str = "", **body: str) -> dict[str, Any]:
        """Returns the current rollout. With an `action` (`abort`, `promote`), sends that request first."""
        path = f"/apps/{self.app}/rollout"
        view: dict[str, Any]
        view = self.call("proxy", "POST", f"{path}/{action}", body) if action else self.call("proxy", "GET", path)
        return view

    def call(self, service: ServiceName, method: str, path: str, body: Any = None) -> Any:
        """Returns the JSON answer of a service. Raises RequestRefused if the service answers with an error."""
        with self._stack.api(service) as client:
            answer = client.request(method, path, json=body)
        if answer.is_error:
            raise RequestRefused(f"{method} {path} of {service} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None


def indented(pushed: Pushed) -> str:
    """Returns the output of a push, indented for a terminal."""
    return "\n".join(f"    {line}" for line in pushed.output.splitlines())
