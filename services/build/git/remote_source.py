"""Describes an app's source: the repository at a forge from which the app is fetched. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, Strict

from shared.errors import Invalid
from shared.models import Model, View
from shared.security.outgoing import AddressGuard, AddressRefused
from shared.security.vault import Vault

_SCP = re.compile(r"(?P<user>\w[\w.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^-:/\s]\S*)", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_USER = re.compile(r"\w[\w.-]*", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]{1,500}")

PORTS = {"https": 443, "http": 80, "ssh": 22}


class Forge(StrEnum):
    GITHUB = "github"
    GITEA = "gitea"
    GITLAB = "gitlab"


SOURCE_EXAMPLE = {"forge": "github", "url": "https://github.com/owner/repository.git"}
# A personal token accepts any name; tokens of apps and of OAuth need these.
USERNAMES = {Forge.GITHUB: "x-access-token", Forge.GITEA: "slipway", Forge.GITLAB: "oauth2"}


class SourceSettings(Model):
    """Field `source` of the body of `PUT /apps/{app}`, which replaces the app's source. A `token` or `webhook_secret`
    that is left out keeps its value.
    """

    forge: Annotated[Forge, Strict(False)]
    url: str = Field(description="Clone URL: https://…, ssh://… or git@host:path, without credentials.")
    username: str | None = Field(None, max_length=200, description="User name for the token; most forges accept any.")
    token: SecretStr | None = Field(
        None, max_length=4000, description="Write-only. Reads the repository over https, and reports commit statuses."
    )
    webhook_secret: SecretStr | None = Field(None, max_length=4000, description="Write-only. Signs the forge's calls.")
    api_url: str | None = Field(None, description="Base URL of the forge's API, if it is an unusual one.")


class SourceView(View):
    forge: Forge
    url: str
    username: str | None = None
    api_url: str | None = None
    token_set: bool = False
    webhook_secret_set: bool = False


class Source(View):
    """Holds an app's source (a repository at a forge) as it is stored. `token` and `webhook_secret` are encrypted, or
    empty.
    """

    forge: Forge
    url: str
    username: str | None = None
    api_url: str | None = None
    token: str = Field("", repr=False)
    webhook_secret: str = Field("", repr=False)

    def view(self) -> SourceView:
        known = self.model_dump(exclude={"token", "webhook_secret"})
        return SourceView(**known, token_set=bool(self.token), webhook_secret_set=bool(self.webhook_secret))


@dataclass(frozen=True)
class ForgeRepository:
    """Locates a repository by the base URL of its forge and its path there."""

    root: str
    """Base URL of the forge's host: `https://host[:port]`."""
    path: str
    """Path without `.git`, such as `owner/notes`."""


def changed_source(settings: SourceSettings, before: Source | None, vault: Vault, *, guard: AddressGuard) -> Source:
    """Returns a source made from `settings`, for an app whose source is `before` (None: it has none). Secrets that
    `settings` does not contain are taken from `before`. `guard` decides which addresses the source may have. Raises
    Invalid with the field and the remedy, also if a stored access token would go to another host.
    """
    check_url(settings.url, guard=guard)
    if settings.api_url is not None:
        _check_web("source.api_url", settings.api_url, guard=guard)
    source = Source(
        forge=settings.forge, url=settings.url, username=settings.username or None, api_url=settings.api_url
    )
    for name in ("token", "webhook_secret"):
        given: SecretStr | None = getattr(settings, name)
        if name in settings.model_fields_set:
            value = given.get_secret_value() if given else ""
            _check_secret(f"source.{name}", value)
            sealed = vault.seal(value) if value else ""
        else:
            sealed = getattr(before, name) if before else ""
            if sealed and name == "token" and before and _hosts(source) != _hosts(before):
                raise Invalid("source.token", "was given for another host; give it again, or null")
        source = source.model_copy(update={name: sealed})
    return source


def check_url(url: str, *, guard: AddressGuard) -> None:
    """Raises Invalid for a clone URL with credentials or options, with a protocol other than https and ssh, or with an
    address that the guard refuses. For a loopback address that the guard allows, http:// is permitted as well.
    """
    if _PRINTABLE.fullmatch(url) and (match := _SCP.fullmatch(url)):
        _check_host("source.url", match["host"], guard)
        return
    _check_web("source.url", url, guard=guard, protocols=("https", "ssh"))
    if not urlsplit(url).path.strip("/"):
        raise Invalid("source.url", "names no repository; write it like https://forge.example/owner/repository.git")


def place(source: Source) -> ForgeRepository:
    """Returns the forge's base URL and the repository's path, both taken from the clone URL."""
    if match := _SCP.fullmatch(source.url):
        return ForgeRepository(f"https://{match['host']}", _bare(match["path"]))
    parts = urlsplit(source.url)
    root = f"https://{parts.hostname}" if parts.scheme == "ssh" else f"{parts.scheme}://{parts.netloc}"
    return ForgeRepository(root, _bare(parts.path))


def host_and_port(url: str) -> tuple[str, str, int]:
    """Returns protocol, host and port of a clone URL."""
    if match := _SCP.fullmatch(url):
        return "ssh", match["host"], PORTS["ssh"]
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def _hosts(source: Source) -> tuple[str, str]:
    """Returns the base URLs of the repository's host and of the forge's API, the only ones to which the access token
    may be sent.
    """
    parts = urlsplit(source.api_url or "")
    return place(source).root, f"{parts.scheme}://{parts.netloc}"


def _bare(path: str) -> str:
    return path.strip("/").removesuffix(".git")


def _check_web(field: str, url: str, *, guard: AddressGuard, protocols: tuple[str, ...] = ("https",)) -> None:
    remedy = f"write it like {' or '.join(f'{protocol}://' for protocol in protocols)}host/path"
    if not _PRINTABLE.fullmatch(url):
        raise Invalid(field, f"holds white space or other signs that no URL has, or is too long; {remedy}")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise Invalid(field, f"is no URL; {remedy}") from None
    http_here = parts.scheme == "http" and _is_loopback(host)  # the guard has to allow it
    if parts.scheme not in protocols and not http_here:
        raise Invalid(field, f"is not of a protocol that is allowed; {remedy}")
    if not _HOST.fullmatch(host) or port == 0:
        raise Invalid(field, f"names no host; {remedy}")
    if _has_credentials(parts):
        raise Invalid(field, "holds credentials; give them as username and token")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise Invalid(field, f"has a query or a fragment; {remedy}")
    _check_host(field, host, guard)


def _check_host(field: str, host: str, guard: AddressGuard) -> None:
    try:
        guard.check(host)
    except AddressRefused as error:
        raise Invalid(field, str(error)) from error


def _has_credentials(parts: SplitResult) -> bool:
    if parts.scheme == "ssh":  # the user is a name at the forge, mostly `git`
        return "@" in parts.netloc and not _USER.fullmatch(parts.netloc.rpartition("@")[0])
    return "@" in parts.netloc


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_secret(field: str, value: str) -> None:
    if not value.isprintable() or not value.isascii() or value != value.strip():
        raise Invalid(field, "holds white space at its ends, line ends or signs beyond ASCII; copy it anew")
