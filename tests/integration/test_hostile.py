"""Repositories that mean harm, pushed to a whole build service: each is refused or contained, with an error that says
why, and the service goes on."""

import hashlib
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.build.executors.process.executor import MARKER
from shared.host.process_search import marked_pids
from tests.support.build.service import TOKEN, BuildService, Developer, eventually

pytestmark = pytest.mark.slow

RUN = "run: {command: python app.py}\n"
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
# That the checkout holds the very bytes, and the submodules nothing.
CHECK = """import os
for name, content in (%r).items():
    assert open(name, "rb").read() == content, name
assert os.listdir("a") == os.listdir("b") == []
"""
# A hundred that have left the step's session, and do not end when they are told to.
MANY = """import os, signal, time
for _ in range(100):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for fd in range(3):
                os.close(fd)
            time.sleep(120)
        os._exit(0)
    os.wait()
"""
_apps = itertools.count(1)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[BuildService]:
    limits = {"SLIPWAY_BUILD_FILES": "2000", "SLIPWAY_BUILD_CHECKOUT_MB": "8", "SLIPWAY_BUILD_PUSH_MB": "2"}
    limits["VIRTUALENV_NO_SEED"] = "0"  # one of them looks at pip
    with BuildService(tmp_path_factory.mktemp("home"), redis_server, **limits).running() as service:
        yield service


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


@pytest.mark.parametrize("size", [3, 24])  # MB: the second goes on for longer than it is listened to
def test_whoever_pushes_too_much_reads_why_and_what_to_do(
    service: BuildService, developer: Developer, app: str, size: int
) -> None:
    developer.commit({"slipway.yml": f"app: {app}\n{RUN}", "big": os.urandom(size * 2**20)})
    shown = developer.push("HEAD:release HEAD:dev")
    assert "a push may carry 2 MB; push the history in parts, keep large files elsewhere, or raise" in shown
    if size == 3:
        assert shown.count("[remote rejected]") == 2
    assert not list((service.home / "spool").iterdir())
    developer.git("rm", "--quiet", "big")
    developer.git("checkout", "--quiet", "--orphan", "without")
    developer.commit({"slipway.yml": f"app: {app}\n{RUN}"})
    assert f"{app}-1 success" in developer.push()


def test_what_came_of_a_push_is_gone_with_the_service(service: BuildService, app: str) -> None:
    head = f"POST /git/{app}.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as pusher:
        pusher.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode() + bytes(300_000))
        eventually(lambda: any("/spool/" in os.readlink(each) for each in _open_files(service)))
        service.kill()
    service.start()
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
        "mkdir out; mknod out/report c 1 5 || mkfifo out/report",
        "mkdir out; python -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"out/report\")'",
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
    assert f"{app}-1 failure: gate steps: x replaced its checkout by a link" in developer.push()
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert not any(path.is_symlink() for path in (service.home / "releases" / app).iterdir())


def test_what_is_nested_too_deep_to_be_sealed_fails_the_build_and_is_removed(
    service: BuildService, developer: Developer, app: str
) -> None:
    script = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\n"
    manifest = f"app: {app}\nsteps:\n- {{name: x, commands: [python deep.py]}}\n{RUN}"
    developer.commit({"slipway.yml": manifest, "deep.py": script})
    assert f"{app}-1 failure: passed its gates, but its folder cannot be read completely" in developer.push()
    assert not (service.home / "releases" / app / f"{app}-1").exists()


def test_a_named_pipe_that_a_step_leaves_is_refused_by_the_gate_commit(developer: Developer, app: str) -> None:
    steps = "steps: [{name: x, commands: ['mkdir at', mkfifo at/work]}]"
    developer.commit({"slipway.yml": f"app: {app}\n{steps}\n{RUN}"})
    shown = developer.push()
    assert f"{app}-1 failure: gate commit: its steps left 'at/work', a named pipe, which no copy" in shown
    assert "FAILED  commit" in shown and "passed  steps" in shown


def test_nothing_that_a_commit_sets_up_is_obeyed_before_its_steps(
    service: BuildService, developer: Developer, tmp_path: Path, app: str
) -> None:
    mark = tmp_path / "executed"
    python, shell = f"open({str(mark)!r}, 'w')\n", f"#!/bin/sh\ntouch {mark}\n"
    kept = {"id.txt": "$Id$\n", "format.txt": "$Format:%H$\n", "crlf.txt": "a\r\nb\n", "big.lfs": LFS}
    modules = (
        "sitecustomize",
        "usercustomize",
        "conftest",
        "setup",
        "virtualenv",
        "pip",
        "lizard",
        "detect_secrets",
        "requests",
    )
    developer.commit(
        kept
        | {f"{name}.py": python for name in modules}
        | {f"{folder}/{hook}": shell for folder in ("hooks", ".githooks") for hook in ("post-checkout", "pre-receive")}
        | {
            "slipway.yml": f"app: {app}\nsteps:\n- {{name: x, commands: [python check.py]}}\n{RUN}",
            "check.py": CHECK % {name: text.encode() for name, text in kept.items()},
            ".gitattributes": "* text eol=crlf ident\nformat.txt export-subst\n*.lfs filter=lfs\n*.py filter=x\n",
            ".gitmodules": f'[submodule "a"]\npath = a\nurl = file://{service.home}\n'
            f'[submodule "b"]\npath = b\nurl = "ext::sh -c touch% {mark}"\n',
            ".lfsconfig": "[lfs]\nurl = http://127.0.0.1:9/\n",
            "pip.conf": "[global]\nindex-url = http://127.0.0.1:9/\n",
            ".npmrc": "registry=http://127.0.0.1:9/\n",
        }
    )
    # The developer's git has obeyed .gitattributes; what is pushed is to hold the very bytes.
    for name, text in kept.items():
        (tmp_path / "raw").write_bytes(text.encode())
        blob = developer.git("hash-object", "-w", "--no-filters", str(tmp_path / "raw")).strip()
        developer.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    for name in ("a", "b"):
        developer.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{name}")
    developer.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=raw")
    shown = developer.push()
    assert "submodules are not supported; their folders stay empty" in shown
    assert f"{app}-1 success" in shown
    assert not mark.exists()


def test_a_virtual_environment_of_the_commit_leads_nowhere(
    service: BuildService, developer: Developer, tmp_path: Path, app: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "work" / ".venv").symlink_to(outside)
    step = "- {name: x, commands: [test ! -L .venv && python -c 'import pip']}\n"
    developer.commit({"slipway.yml": f"app: {app}\nsteps:\n{step}{RUN}"})
    assert f"{app}-1 success" in developer.push()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ('rm -rf "$HOME"; ln -s OUTSIDE "$HOME"', "success"),
        ('rm -rf "$HOME"; touch "$HOME"', "success"),
        ('here=$PWD; cd ..; rm -rf "$here"; ln -s OUTSIDE "$here"', "failure: gate steps: x replaced its checkout"),
        ('here=$PWD; cd ..; rm -rf "$here"', "failure: "),
    ],
)
def test_a_folder_that_a_step_replaced_is_not_gone_through(
    service: BuildService, developer: Developer, tmp_path: Path, app: str, script: str, end: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (outside / ".step-start").write_text("x")
    more = "- {name: y, commands: ['true']}\n- {name: z, stage: test, commands: ['true'], reports: {junit: kept}}\n"
    manifest = (
        f"app: {app}\nsteps:\n- {{name: x, commands: [sh ci.sh]}}\n{more if end != 'success' else more[:32]}{RUN}"
    )
    developer.commit({"slipway.yml": manifest, "ci.sh": script.replace("OUTSIDE", str(outside))})
    assert f"{app}-1 {end}" in developer.push()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"kept": "x", ".step-start": "x"}


def test_a_step_ends_with_all_that_it_started(service: BuildService, developer: Developer, app: str) -> None:
    manifest = f"app: {app}\nsteps:\n- {{name: x, commands: [python many.py]}}\n{RUN}"
    developer.commit({"slipway.yml": manifest, "many.py": MANY})
    assert f"{app}-1 success" in developer.push()
    assert marked_pids(MARKER, str(service.home / "releases" / app / f"{app}-1")) == []


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("head -c 100M /dev/zero | tr '\\0' a", "the log has reached 20 MB"),
        ("yes '\033[2J' | head -c 1M", "success"),
        ("printf '\\033]0;mine\\007\\033[2J\\033[31mred\\033[0m\\r\\b\\302\\233end\\n'", "red\n��end"),
        ("printf 'x\\nhostile0-1 success: is live\\n'; exit 1", "x exited with 1"),
    ],
)
def test_what_a_step_prints_fills_nothing_and_is_obeyed_by_nobody(
    service: BuildService, developer: Developer, app: str, script: str, shown: str
) -> None:
    manifest = f"app: {app}\nsteps:\n- {{name: x, commands: [sh ci.sh]}}\n{RUN}"
    developer.commit({"slipway.yml": manifest, "ci.sh": script})
    before = _memory_kib(service)
    told = developer.push()
    assert shown in told
    page = service.http.get(f"/builds/{app}-1", headers={"Accept": "text/html"}).text
    log = service.home / "logs" / "builds" / f"{app}-1.log"
    assert "\x1b" not in told + page + log.read_text()
    assert log.stat().st_size < 21 * 2**20
    assert _memory_kib(service) - before < 64 * 1024


def push_refs(service: BuildService, app: str, commit: str, refs: list[bytes]) -> str:
    """Pushes many refs as a client without checks of its own (git's own takes a minute for as many)."""
    new = b"0" * 40 + b" " + commit.encode() + b" "
    lines = [new + refs[0] + b"\0report-status side-band-64k", *(new + ref for ref in refs[1:])]
    pack = b"PACK" + (2).to_bytes(4, "big") + bytes(4)
    body = b"".join(b"%04x" % (len(line) + 4) + line for line in lines) + b"0000" + pack + hashlib.sha1(pack).digest()
    kind = {"Content-Type": "application/x-git-receive-pack-request"}
    url = f"/git/{app}.git/git-receive-pack"
    answer, said = service.http.post(url, content=body, headers=kind, timeout=60).content, b""
    while length := int(answer[:4], 16):  # each packet begins with its length and its band
        said, answer = said + answer[5:length], answer[length:]
    return said.decode(errors="replace")


def test_ten_thousand_refs_and_odd_names_in_one_push(service: BuildService, developer: Developer, app: str) -> None:
    commit = developer.commit({"slipway.yml": f"app: {app}\n{RUN}"})
    assert f"{app}-1 success" in developer.push()
    odd = [b"refs/heads/-x", "refs/heads/größe".encode(), b"refs/heads/caf\xe9", b"refs/heads/$(touch${IFS}x);`id`"]
    many = [b"refs/heads/b%d" % number for number in range(5000)] + [b"refs/tags/t%d" % n for n in range(5000)]
    shown = push_refs(service, app, commit, odd + many)
    for name in ("-x", "größe", "caf?", "$(touch${IFS}x);`id`", "b0"):
        assert f"{name} is not mapped to an environment; nothing to build" in shown
    assert "and 9984 more refs, with nothing to build" in shown
    assert shown.count("ok refs/") == 10_004
    assert service.http.post(f"/apps/{app}/builds", json={"branch": "-x"}).json()["branch"] == "-x"
    assert service.ended(f"{app}-2")["state"] == "success"
    assert service.ready()


def test_a_name_that_is_none_is_refused(service: BuildService, developer: Developer, app: str) -> None:
    commit = developer.commit({"slipway.yml": f"app: {app}\n{RUN}"})
    developer.push()
    for name in (b"refs/heads/a..b", b"refs/heads/x.lock", b"refs/heads/../../hooks/x", b"refs/heads/\x1b[2J"):
        assert "funny refname" in push_refs(service, app, commit, [name])
    assert service.http.get(f"/builds/{app}-2").status_code == 404


def _open_files(service: BuildService) -> list[Path]:
    return list(Path(f"/proc/{service.process.pid}/fd").iterdir())


def _memory_kib(service: BuildService) -> int:
    status: Any = Path(f"/proc/{service.process.pid}/status").read_text().split("VmHWM:")[1]
    return int(status.split()[0])
