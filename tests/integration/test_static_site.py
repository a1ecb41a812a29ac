"""The commands that publish and serve a static site, run as a step and an instance would run them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.build.inference.inference import Guess
from services.build.inference.static import SITE, site
from tests.support.ports import free_port

FILES = {
    "index.html": "<h1>home</h1>",
    "404.html": "nothing",
    "about/index.html": "about",
    "empty/data.txt": "0123456789",
    ".well-known/security.txt": "whom to ask",
    ".env": "secret",
    ".git/config": "secret",
    "about/.htpasswd": "secret",
    "slipway.yml": "secret",
    "Procfile": "secret",
    "node_modules/x.js": "secret",
}
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOST": "127.0.0.1"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yields a client of the server of a site with FILES."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "outside").symlink_to("/etc")  # what a link leads to is neither copied nor served
    (folder / "hidden").symlink_to("../.env")
    (folder / "now").symlink_to("about")
    part, command = site(Guess(".", "index.html"))
    publish = part.steps[0].commands[-1]  # the one before it installs what the tests have
    subprocess.run(["sh", "-e", "-c", publish], cwd=folder, env=ENVIRONMENT, check=True, timeout=60)
    port = free_port()
    server = subprocess.Popen(["sh", "-c", command.value], cwd=folder, env={**ENVIRONMENT, "PORT": str(port)})
    try:
        with httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline = time.monotonic() + 60
            while not _answers(client):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            yield client
    finally:
        server.terminate()
        assert server.wait(timeout=30) in (0, -15)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, "<h1>home</h1>"),
        ("/about/", 200, "about"),
        ("/.well-known/security.txt", 200, "whom to ask"),
        ("/empty/", 404, "nothing"),
        ("/no/such", 404, "nothing"),
        *((f"/{name}", 404, "nothing") for name, text in FILES.items() if text == "secret"),
        (f"/{SITE}/index.html", 404, "nothing"),
        ("/..%2f.env", 404, "nothing"),
        ("/outside/hostname", 404, "nothing"),
        ("/hidden", 404, "nothing"),
        ("/now/", 200, "about"),
    ],
)
def test_what_is_served_and_what_is_not(client: httpx.Client, path: str, status: int, body: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (status, body)


def test_a_folder_without_its_slash_leads_to_the_one_with_it(client: httpx.Client) -> None:
    answer = client.get("/about", headers={"Host": "a.example", "X-Forwarded-Proto": "https"})
    assert (answer.status_code, answer.headers["location"]) == (307, "https://a.example/about/")


def test_a_part_of_a_file_is_served(client: httpx.Client) -> None:
    answer = client.get("/empty/data.txt", headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.text, answer.headers["content-range"]) == (206, "234", "bytes 2-4/10")


def test_what_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    tag = client.get("/").headers["etag"]
    assert client.get("/", headers={"If-None-Match": tag}).status_code == 304
