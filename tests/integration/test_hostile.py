"""Repositories that mean harm, pushed to a whole build service: each is refused or contained, with an error that says
why, and the service goes on."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as sync_redis

from tests.unit.build.service import TOKEN, BuildService, Developer, StubDeployer

RUN = "run: {command: python app.py}\n"
_apps = itertools.count(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[BuildService]:
    with sync_redis.Redis.from_url(redis_server) as database:
        database.flushdb()
    deployer = StubDeployer()
    limits = {"SLIPWAY_BUILD_FILES": "2000", "SLIPWAY_BUILD_CHECKOUT_MB": "8", "SLIPWAY_BUILD_PUSH_MB": "2"}
    service = BuildService(tmp_path_factory.mktemp("home"), redis_server, deployer.port, **limits)
    service.start()
    yield service
    service.close()
    deployer.close()


@pytest.fixture
def app() -> str:
    return f"hostile{next(_apps)}"


@pytest.fixture
def developer(tmp_path: Path, service: BuildService, app: str) -> Developer:
    return Developer(tmp_path / "work", service, app)


class Objects:
    """Makes git objects that git's own commands would not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, kind: str, data: bytes) -> str:
        command = ["git", "hash-object", "-w", "--literally", "--stdin", "-t", kind]
        return (
            subprocess.run(command, cwd=self._folder, input=data, capture_output=True, check=True)
            .stdout.decode()
            .strip()
        )

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        return self.put(
            "tree", b"".join(b"%s %s\0" % (mode.encode(), name) + bytes.fromhex(of) for mode, name, of in entries)
        )

    def commit(self, tree: str, message: bytes = b"change\n") -> str:
        who = b"a <a@b> 1700000000 +0000"
        return self.put("commit", b"tree %s\nauthor %s\ncommitter %s\n\n%s" % (tree.encode(), who, who, message))


@pytest.fixture
def objects(developer: Developer, tmp_path: Path) -> Objects:
    return Objects(tmp_path / "work")


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT", b"git~1", b".g\xe2\x80\x8cit", b"/etc", b"."])
def test_names_that_lead_elsewhere_are_refused_with_the_push(
    service: BuildService, developer: Developer, objects: Objects, app: str, name: bytes
) -> None:
    inner = objects.tree(("100644", b"passwd", objects.put("blob", b"x")))
    shown = developer.push(f"{objects.commit(objects.tree(('40000', name, inner)))}:refs/heads/release")
    assert "rejected" in shown or "unpack" in shown or "fsck error" in shown
    assert service.http.get(f"/builds/{app}-1").status_code == 404


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"\x1b[2Jx", "cannot be shown"),
        (b"a\nrelease success: is live", "cannot be shown"),
        (b"\xe2\x80\xaeexe.py", "cannot be shown"),
        (b"caf\xe9", "is not UTF-8"),
        (b"n" * 4000, "a path of 4000 bytes"),
    ],
)
def test_names_that_cannot_be_shown_or_written_fail_the_build(
    service: BuildService, developer: Developer, objects: Objects, app: str, name: bytes, reason: str
) -> None:
    shown = developer.push(
        f"{objects.commit(objects.tree(('100644', name, objects.put('blob', b'x'))))}:refs/heads/release"
    )
    if "unpack" not in shown:  # newer gits refuse the longest with the push
        assert f"{app}-1 failure: gate commit: it holds " in shown
        assert reason in shown
        assert service.build(f"{app}-1")["state"] == "failure"
    page = service.http.get(f"/builds/{app}-1", headers={"Accept": "text/html"}).content
    assert name not in page + service.log(f"{app}-1").encode() + shown.encode()


def deep(objects: Objects, levels: int) -> str:
    tree = objects.tree(("100644", b"f", objects.put("blob", b"x")))
    for _ in range(levels):
        tree = objects.tree(("40000", b"d", tree))
    return tree


def wide(objects: Objects, levels: int, leaf: tuple[str, bytes, str]) -> str:
    """10^levels entries in `levels` objects."""
    tree = objects.tree(leaf)
    for _ in range(levels):
        tree = objects.tree(*[("40000", b"d%d" % number, tree) for number in range(10)])
    return tree


def test_bombs_are_cut_off_before_they_unfold(
    service: BuildService, developer: Developer, objects: Objects, app: str
) -> None:
    blob, zeros = objects.put("blob", b"x"), objects.put("blob", bytes(9 * 2**20))
    empty = objects.tree()
    cases = [
        (deep(objects, 150), "nested deeper than 100 folders"),
        (wide(objects, 9, ("100644", b"f", blob)), "more than 2000 files and folders"),
        (wide(objects, 9, ("40000", b"none", empty)), "more than 2000 files and folders"),
        (objects.tree(("100644", b"zeros", zeros)), "unpacks to more than 8 MB (reached at 'zeros')"),
    ]
    for number, (tree, reason) in enumerate(cases, 1):
        before = _memory_kib(service)
        shown = developer.push(f"{objects.commit(tree)}:refs/heads/release")
        assert f"{app}-{number} failure: gate commit: it " in shown
        assert reason in shown
        assert _memory_kib(service) - before < 32 * 1024
        assert not (service.home / "releases" / app / f"{app}-{number}").exists()


def test_large_texts_do_not_stop_the_service(
    service: BuildService, developer: Developer, objects: Objects, app: str
) -> None:
    manifest = objects.put("blob", f"app: {app}\n{RUN}".encode() + b"#" * (5 * 2**20))
    tree = objects.tree(("100644", b"slipway.yml", manifest))
    shown = developer.push(f"{objects.commit(tree, b'm' * 2**20)}:refs/heads/release")
    assert f"{app}-1 failure: gate manifest: slipway.yml" in shown
    assert "is larger than 1 MiB" in shown


def test_a_push_larger_than_the_limit_is_refused_with_the_remedy(service: BuildService, app: str) -> None:
    url = f"{service.url}/git/{app}.git/git-receive-pack"

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(2**20)

    try:
        answer = httpx.post(url, content=endless(), auth=("any", TOKEN), trust_env=False)
        assert answer.status_code == 413
        assert "a push may carry 2 MB" in answer.text
    except httpx.WriteError:
        pass  # the service has hung up already
    assert not list((service.home / "spool").iterdir())


@pytest.mark.parametrize("name", ["slipway.yml", "Procfile", "Dockerfile", "requirements.txt"])
def test_links_out_of_the_repository_are_not_read(
    service: BuildService, developer: Developer, tmp_path: Path, app: str, name: str
) -> None:
    (tmp_path / "work" / name).symlink_to(service.home / "token")
    developer.commit({"readme": "x"})
    shown = developer.push()
    assert f"{app}-1 failure: gate manifest: slipway.yml: is missing" in shown or "nothing tells" in shown
    assert TOKEN not in shown


@pytest.mark.parametrize(
    "script",
    [
        "mkdir out; mkfifo out/report",
        "mkdir out; ln -s /etc/passwd out/report",
        "ln -s /etc out",
        "mkdir out; ln -s report out/report",
        "mkdir out; ln -s /dev/zero out/report",
        "mkdir out; truncate -s 500M out/report",
        'mkdir out; python -c \'print("<testsuite>" + "<a>" * 100000)\' > out/report',
    ],
)
def test_reports_that_are_traps_do_not_count(developer: Developer, app: str, script: str) -> None:
    step = "- {name: test, stage: test, commands: [sh ci.sh], reports: {junit: out/report}}\n"
    developer.commit({"slipway.yml": f"app: {app}\nsteps:\n{step}{RUN}", "ci.sh": script})
    assert f"{app}-1 failure: gate test_failures: no readable figure: out/report" in developer.push()


def test_a_step_that_replaces_its_folders_harms_nothing_outside(
    service: BuildService, developer: Developer, tmp_path: Path, app: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    script = f'here=$PWD; cd ..; rm -rf "$here" "$HOME"; ln -s {outside} "$here"; ln -s {outside} "$HOME"; exit 1\n'
    developer.commit(
        {"slipway.yml": f"app: {app}\nsteps:\n- {{name: x, commands: [sh ci.sh]}}\n{RUN}", "ci.sh": script}
    )
    assert f"{app}-1 failure: gate steps: x exited with 1" in developer.push()
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert not any(path.is_symlink() for path in (service.home / "releases" / app).iterdir())


def test_what_is_nested_too_deep_to_be_sealed_fails_the_build_and_is_removed(
    service: BuildService, developer: Developer, app: str
) -> None:
    script = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\n"
    manifest = f"app: {app}\nsteps:\n- {{name: x, commands: [python deep.py]}}\n{RUN}"
    developer.commit({"slipway.yml": manifest, "deep.py": script})
    assert f"{app}-1 failure: passed its gates, but its folder cannot be read whole" in developer.push()
    assert not (service.home / "releases" / app / f"{app}-1").exists()


def _memory_kib(service: BuildService) -> int:
    status: Any = Path(f"/proc/{service.process.pid}/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0])
