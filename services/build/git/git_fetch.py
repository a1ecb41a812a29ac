"""Fetches branches of an app's source (its repository at a forge, such as GitHub) into the app's repository, without
exposing the credentials.
"""

import os
import re
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from services.build.git.remote_source import PORTS, USERNAMES, Source, host_and_port
from services.build.git.repository import GIT_ENVIRONMENT, Repositories, config_variables
from services.build.logs.line_splitter import LineSplitter
from services.build.system.api_call import api_call
from services.build.system.command import piped, start, terminate, wait_for_exit
from services.build.system.stop import Stop
from shared.security.outgoing import AddressGuard, AddressRefused, NoAddress
from shared.security.vault import Vault, VaultError

TIMEOUT_S = 120.0
LARGEST_ANSWER_BYTES = 2**20
REASON_CHARACTERS = 300
_HEAD = re.compile(r"([0-9a-f]{40})\trefs/heads/(\S+)")
# git asks this helper for the credentials of one origin. The values are in the environment, not in a command line.
_HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SLIPWAY_USER" "$SLIPWAY_PASSWORD"; }; f'
_REDIRECTED = re.compile(r"returned error: 30\d")
_DENIED = ("authentication failed", "could not read username", "could not read password", "permission denied", " 403")


class FetchFailed(Exception):
    """Reports that a fetch failed; the message says why and contains no credential."""


class Fetcher:
    """Fetches from apps' sources (repositories at a forge) with git. For ssh it uses the keys and known hosts of the
    user that runs the service. `vault` decrypts the sources' access tokens; `path_variable` is the PATH for git;
    `guard` decides which addresses may be connected to; `timeout_s` limits a whole fetch.
    """

    def __init__(
        self,
        repositories: Repositories,
        vault: Vault,
        path_variable: str,
        guard: AddressGuard,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._repositories = repositories
        self._vault = vault
        self._guard = guard
        self._environment = {
            **GIT_ENVIRONMENT,
            "PATH": path_variable,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",  # only the credential helper answers
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
        }
        self._timeout_s = timeout_s

    async def fetch(self, app: str, source: Source, branches: Collection[str]) -> None:
        """Updates, in the app's repository, those of `branches` that exist in the source: all of them or none. A branch
        that was deleted in the source is kept. Two calls for one app must not overlap. Idempotent. Cancelling the call
        terminates git. Raises FetchFailed if git fails or the address is refused.
        """
        try:
            token = self._vault.open(source.token) if source.token else ""
        except VaultError as error:
            raise FetchFailed(f"source.token cannot be read: {error}") from None
        try:
            pinned = await self._pinned(source.url)
        except AddressRefused as error:
            raise FetchFailed(str(error)) from error
        environment = {**self._environment, **_config(source, token, pinned)}
        deadline = time.monotonic() + self._timeout_s
        await self._repositories.in_thread(self._repositories.ensure, app)
        local = await self._repositories.in_thread(self._repositories.heads, app)
        names = sorted(f"refs/heads/{branch}" for branch in branches)
        heads = ["ls-remote", "--quiet", "--", source.url, *names]
        answer = await self._git(app, source, heads, environment, token, deadline)
        remote = {match[2]: match[1] for line in answer if (match := _HEAD.fullmatch(line))}
        changed = sorted(b for b, commit in remote.items() if b in branches and local.get(b) != commit)
        if changed:
            refs = [f"+refs/heads/{branch}:refs/heads/{branch}" for branch in changed]
            options = ["--quiet", "--no-tags", "--atomic", "--no-write-fetch-head", "--no-auto-maintenance"]
            fetch = ["fetch", *options, "--", source.url, *refs]
            await self._git(app, source, fetch, environment, token, deadline)

    async def _pinned(self, url: str) -> str:
        """Returns the addresses to which git must connect, which the guard has checked, in the form of curl's option
        (`host:port:address,…`). Returns an empty text for ssh, whose own configuration may give the host another name.
        Raises AddressRefused.
        """
        scheme, host, port = host_and_port(url)
        if scheme not in PORTS:
            return ""  # git itself refuses such a URL
        try:
            addresses = await self._guard.resolve(host, port)
        except NoAddress:
            if scheme != "ssh":
                raise
            return ""  # a host name that only ssh's configuration on this machine defines
        written = [f"[{address}]" if ":" in address else address for address in addresses]
        return "" if scheme == "ssh" else f"{host}:{port}:{','.join(written)}"

    async def _git(
        self,
        app: str,
        source: Source,
        arguments: list[str],
        environment: Mapping[str, str],
        token: str,
        deadline: float,
    ) -> list[str]:
        """Runs git; returns the lines that it prints, at most 1 MiB. Raises FetchFailed, with `token` masked, if git
        fails or has not ended by `deadline` (monotonic clock).
        """
        lines: list[str] = []
        splitter, size = LineSplitter(), 0

        def collect(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size <= LARGEST_ANSWER_BYTES:
                lines.extend(splitter.feed(data))

        folder = self._repositories.path(app)
        async with piped(collect) as output:
            process = start(["git", "--git-dir", str(folder), *arguments], folder, environment, output)
            try:
                late = await wait_for_exit(process, deadline, self._timeout_s, Stop())
            finally:
                await terminate(process)
        lines += splitter.end()
        if late:
            raise FetchFailed(f"the fetch {late}; is the forge in reach?")
        if process.wait():
            raise FetchFailed(
                failure_reason(app, source, lines, token) or f"git {arguments[0]} ended with {process.returncode}"
            )
        return lines


def _config(source: Source, token: str, pinned: str) -> dict[str, str]:
    """Returns environment variables that hold git's configuration and credentials for the source. With these, git
    follows no redirect and connects only to the `pinned` address, so the credentials go nowhere else.
    """
    config = {
        "safe.directory": "*",
        "credential.helper": "",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": "30",
        "core.hooksPath": os.devnull,
        "http.followRedirects": "false",
    }
    if pinned:
        config["http.curloptResolve"] = pinned
    secret = {}
    parts = urlsplit(source.url)
    if token and parts.scheme in ("https", "http"):
        config[f"credential.{parts.scheme}://{parts.netloc}.helper"] = _HELPER
        secret = {"SLIPWAY_USER": source.username or USERNAMES[source.forge], "SLIPWAY_PASSWORD": token}
    protocols = "https:ssh:http" if parts.scheme == "http" else "https:ssh"  # http only for loopback, see remote_source
    return {"GIT_ALLOW_PROTOCOL": protocols, **config_variables(config), **secret}


def failure_reason(app: str, source: Source, lines: list[str], token: str) -> str:
    """Returns git's message with the token masked, cut to 300 characters. If access was denied or the source redirects,
    adds a remedy.
    """
    said = "; ".join(line.strip() for line in lines if line.strip())
    said = (said.replace(token, "***") if token else said)[:REASON_CHARACTERS]
    if any(sign in said.lower() for sign in _DENIED):
        call = _set(app, source, username="<user>", token="<token>")
        return f"{said}; let user and token be of somebody who may read the repository: {call}"
    if _REDIRECTED.search(said):
        call = _set(app, source, url="https://<address that it leads to>")
        return f"{said}: it redirects; let the source be where that leads: {call}"
    return said


def _set(app: str, source: Source, **changes: str) -> str:
    """Returns, for a message, the API call that makes `changes` to the app's source. It also names the source's other
    fields, because the call would delete those that it does not name.
    """
    kept = source.model_dump(include={"forge", "url", "username", "api_url"}, exclude_none=True)
    return api_call("PUT", f"/apps/{app}", {"source": kept | changes})
