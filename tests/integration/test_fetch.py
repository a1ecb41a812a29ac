"""Fetches over HTTP from a real git server that wants a password."""

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from services.build.git.git_fetch import Fetcher, FetchFailed
from services.build.git.remote_source import Forge, Source
from services.build.git.repository import Repositories
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault
from tests.support.build.outside import FORGE_TOKEN, OutsideDeveloper, OutsideForge
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio
BRANCHES = ["release", "dev"]


class Here:
    """The platform's side."""

    def __init__(self, folder: Path) -> None:
        self.repositories = Repositories(folder / "repositories", os.environ["PATH"])
        self.vault = Vault(folder / "key", "trial")

    def fetcher(self, *, allowed: str = "127.0.0.0/8", timeout_s: float = 60) -> Fetcher:
        return Fetcher(self.repositories, self.vault, os.environ["PATH"], AddressGuard(allowed), timeout_s=timeout_s)

    def source(self, url: str, token: str = FORGE_TOKEN) -> Source:
        return Source(forge=Forge.GITEA, url=url, token=self.vault.seal(token) if token else "")

    def heads(self) -> dict[str, str]:
        return self.repositories.heads("notes")


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def git_processes() -> list[psutil.Process]:
    """Those that this process has begun, below the server's."""
    return [child for child in psutil.Process().children(recursive=True) if child.name().startswith("git")]


async def test_the_branches_that_are_asked_for_are_brought_up_to_date(
    here: Here, forge: OutsideForge, developer: OutsideDeveloper
) -> None:
    fetcher, source = here.fetcher(), here.source(forge.url())
    first = developer.push()
    developer.push_refs("HEAD:refs/heads/other", "HEAD:refs/tags/v1")
    await fetcher.fetch("notes", source, BRANCHES)
    assert here.heads() == {"release": first}
    assert here.repositories.commit("notes", "v1") is None
    second = developer.push()
    await fetcher.fetch("notes", source, BRANCHES)
    assert here.heads() == {"release": second}
    developer.back()
    developer.push_refs("+HEAD:refs/heads/release", "HEAD:refs/heads/dev")  # forced
    await fetcher.fetch("notes", source, BRANCHES)
    assert here.heads() == {"release": first, "dev": first}
    developer.push_refs(":refs/heads/dev")
    await fetcher.fetch("notes", source, BRANCHES)
    assert here.heads() == {"release": first, "dev": first}
    runs = forge.runs
    await fetcher.fetch("notes", source, BRANCHES)
    assert forge.runs == runs + 1  # nothing is new: a look is enough
    assert here.repositories.message("notes", first) == "Say hello\n\n"


@pytest.mark.parametrize("token", ["", "wrong-token"])
async def test_without_the_right_token_the_remedy_is_said(
    here: Here, forge: OutsideForge, developer: OutsideDeveloper, token: str
) -> None:
    developer.push()
    with pytest.raises(FetchFailed, match=r"let user and token be .*PUT /apps/notes \{\"source\": ") as failed:
        await here.fetcher().fetch("notes", here.source(forge.url(), token), BRANCHES)
    assert "wrong-token" not in str(failed.value)


async def test_what_git_says_is_told_without_the_token(here: Here) -> None:
    url = f"http://127.0.0.1:{free_port()}/git/{FORGE_TOKEN}.git"
    with pytest.raises(FetchFailed, match=r"unable to access .*\*\*\*") as failed:
        await here.fetcher().fetch("notes", here.source(url), BRANCHES)
    assert FORGE_TOKEN not in str(failed.value)


async def test_no_command_line_holds_the_token(here: Here, forge: OutsideForge, developer: OutsideDeveloper) -> None:
    developer.push()
    seen: set[str] = set()

    async def look() -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                try:
                    seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await here.fetcher().fetch("notes", here.source(forge.url()), BRANCHES)
    looking.cancel()
    assert [line for line in seen if "remote-http" in line], seen
    assert not [line for line in seen if FORGE_TOKEN in line]


@pytest.mark.parametrize("file", ["config", "FETCH_HEAD"])
async def test_the_repository_keeps_nothing_of_the_source(
    here: Here, forge: OutsideForge, developer: OutsideDeveloper, file: str
) -> None:
    developer.push()
    await here.fetcher().fetch("notes", here.source(forge.url()), BRANCHES)
    path = here.repositories.path("notes") / file
    assert not path.exists() or not {FORGE_TOKEN, forge.url()} & set(path.read_text().split())


async def test_a_forge_that_hangs_is_left_in_time(here: Here, forge: OutsideForge, developer: OutsideDeveloper) -> None:
    developer.push()
    forge.hangs = True
    with pytest.raises(FetchFailed, match="took longer than its time-out of 1 s; is the forge in reach"):
        await here.fetcher(timeout_s=1).fetch("notes", here.source(forge.url()), BRANCHES)
    assert git_processes() == []


async def test_a_fetch_that_is_cancelled_leaves_no_process(
    here: Here, forge: OutsideForge, developer: OutsideDeveloper
) -> None:
    developer.push()
    forge.hangs = True
    fetching = asyncio.create_task(here.fetcher().fetch("notes", here.source(forge.url()), BRANCHES))
    deadline = time.monotonic() + 10
    while not forge.asked and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert git_processes() == []
    forge.hangs = False
    await here.fetcher().fetch("notes", here.source(forge.url()), BRANCHES)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/a.git", "is an address of the machine"),
        ("ext::touch% pwned", "transport 'ext' not allowed"),
        ("file:///tmp", "transport 'file' not allowed"),
        ("--upload-pack=touch pwned", "strange pathname '--upload-pack=touch pwned' blocked"),
    ],
)
async def test_git_itself_refuses_other_protocols(here: Here, url: str, said: str) -> None:
    """Also where the check of the URL were passed by."""
    with pytest.raises(FetchFailed, match=said):
        await here.fetcher(allowed="").fetch("notes", here.source(url, token=""), BRANCHES)
    assert not list(here.repositories.path("notes").glob("pwned"))


async def test_a_token_that_cannot_be_opened_is_said(here: Here, forge: OutsideForge, tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "another", "trial").seal("t")
    source = here.source(forge.url()).model_copy(update={"token": sealed})
    with pytest.raises(FetchFailed, match=r"source\.token cannot be read: it was not encrypted with"):
        await here.fetcher().fetch("notes", source, BRANCHES)


async def test_a_name_is_resolved_once_and_its_address_checked(here: Here) -> None:
    with pytest.raises(FetchFailed, match=r"localhost \(127\.0\.0\.1|::1\) is an address of the machine"):
        await here.fetcher(allowed="").fetch("notes", here.source("https://localhost:1/a.git", token=""), BRANCHES)
    with pytest.raises(FetchFailed, match=r"nowhere\.invalid has no address"):
        await here.fetcher().fetch("notes", here.source("https://nowhere.invalid/a.git", token=""), BRANCHES)


async def test_a_redirect_is_told_and_not_followed(here: Here, tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    heard: list[str] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        status = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n"
        location = f"Location: http://localhost:{port}/b.git/info/refs?service=git-upload-pack\r\n".encode()
        found = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n" + location
        writer.write((found if " /a.git" in heard[-1] else status) + b"Connection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(redirect, "localhost", port)
    async with server:
        with pytest.raises(FetchFailed, match=r"it redirects; .*PUT /apps/notes \{\"source\": "):
            await here.fetcher().fetch("notes", here.source(f"http://127.0.0.1:{port}/a.git"), BRANCHES)
    assert not [request for request in heard if " /b.git" in request]
    assert not [request for request in heard if "authorization" in request.lower()]
