"""Whole runs of builds whose manifest leaves something out, and of an app that is a folder of its repository."""

import json
import os
from pathlib import Path

import pytest

from services.build.builds.build import Build
from services.build.gates.gate import GateResult
from shared.manifest import Manifest
from shared.models import BuildState
from tests.support.build.platform import Platform

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
PACKAGE = json.dumps({"scripts": {"build": "echo built > made", "start": "node server.js"}})
NODE_APP = {"package.json": PACKAGE, "server.js": "", "Procfile": "worker: node work.js\n"}
SERVER = "import os\nos.environ['PORT']\n"


def manifest(build: Build) -> Manifest:
    assert build.manifest is not None, build.reason
    return build.manifest


def entries(build: Build) -> set[str]:
    assert build.artifact is not None, build.reason
    return set(os.listdir(build.artifact.ref))


async def set_root(platform: Platform, root: str | None) -> None:
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update={"root": root}))


async def test_what_a_manifest_leaves_out_is_inferred_and_printed(platform: Platform) -> None:
    build = await platform.build({**NODE_APP, "slipway.yml": "app: notes\nrun: {health: /there}\n"})
    run = manifest(build).run
    assert (build.state, run.command, run.health) == (BuildState.SUCCESS, "npm start", "/there")
    assert run.command_from == "the script start of package.json: node server.js"
    assert [(each.key, each.value) for each in build.inferred] == [("steps", "npm, build"), ("run", "npm start")]
    assert [(step.name, step.state) for step in build.steps] == [("npm", "success"), ("build", "success")]
    assert "made" in entries(build)
    assert (
        "--- inferred\n"
        "    steps: npm, build (from package.json and no lock file: npm)\n"
        "    run: npm start (from the script start of package.json: node server.js)\n"
        "    Procfile: worker: is not run; Slipway runs web: alone\n"
    ) in platform.log(build)


async def test_what_a_manifest_writes_is_not_inferred(platform: Platform) -> None:
    build = await platform.build({**NODE_APP, "slipway.yml": "app: notes\nsteps: []\nrun: {command: sh x}\n"})
    assert (manifest(build).steps, manifest(build).run.command, manifest(build).run.command_from) == ([], "sh x", None)
    assert (build.inferred, build.steps) == ([], [])
    assert "made" not in entries(build)


@pytest.mark.parametrize("package", ["{", json.dumps({"engines": {"node": ">=99"}})])
async def test_what_is_not_inferred_needs_no_file_that_can_be_read(platform: Platform, package: str) -> None:
    files = {"package.json": package, "slipway.yml": "app: notes\nsteps: []\nrun: {command: sh x}\n"}
    assert (await platform.build(files)).state is BuildState.SUCCESS
    inferred = await platform.build({"package.json": package, "slipway.yml": "app: notes\nrun: {command: sh x}\n"})
    assert inferred.reason.startswith("gate manifest: ")


@pytest.mark.parametrize("name", ["slipway.yaml", "Slipway.yml", ".slipway.yml"])
async def test_a_near_miss_of_the_manifests_name_is_refused(platform: Platform, name: str) -> None:
    build = await platform.build({name: "app: notes\ngates: {coverage: 90}\n", "app.py": SERVER})
    assert build.state is BuildState.FAILURE
    assert build.reason == f"gate manifest: {name}: is not read; name it slipway.yml"


async def test_beside_a_manifest_a_near_miss_is_said_to_be_ignored(platform: Platform) -> None:
    own = "app: notes\nrun: {command: cat app.py}\n"
    build = await platform.build({"slipway.yml": own, "slipway.yaml": "app: x\n", "app.py": ""})
    assert build.state is BuildState.SUCCESS
    assert "slipway.yaml is not read; slipway.yml is\n" in platform.log(build)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"Gemfile": ""}, "slipway.yml: is missing, and this looks like Ruby (Gemfile), which needs a Dockerfile and"),
        (
            {"slipway.yml": "app: notes\n", "main.py": "1\n"},
            "run.command: is missing, and main.py holds no app of WSGI",
        ),
        ({"package.json": "{"}, "package.json: is not JSON"),
    ],
)
async def test_a_commit_that_does_not_tell_gets_the_remedy(
    platform: Platform, files: dict[str, str], reason: str
) -> None:
    build = await platform.build(files)
    assert build.state is BuildState.FAILURE
    assert build.reason.startswith(f"gate manifest: {reason}")


CHECK = """mkdir out
printf '<coverage><packages><package><classes><class filename="lib/x.sh"><lines>%s</lines></class></classes></package>\
</packages></coverage>' "$(grep -n . lib/x.sh | sed 's/:.*//; s/.*/<line number="&" hits="0"\\/>/')" > out/c.xml
"""
JUDGED = """app: notes
steps:
- {name: test, commands: [test ! -e other, sh check.sh], reports: {coverage: out/c.xml}}
gates: {coverage: 0, changed_coverage: 0}
run: {command: sh lib/x.sh}
"""


async def test_an_app_may_be_a_folder_of_its_repository(platform: Platform) -> None:
    await set_root(platform, "services/web")
    web = {"slipway.yml": JUDGED, "check.sh": CHECK, "lib/x.sh": "a\nb\n"}
    files = {f"services/web/{path}": text for path, text in web.items()}
    build = await platform.build({**files, "other/main.py": "broken(", "slipway.yml": "app: another\n"})
    assert (build.state, build.root) == (BuildState.SUCCESS, "services/web"), build.reason
    assert entries(build) == {"slipway.yml", "check.sh", "lib", "out"}
    assert changed(build).offenders[0].message == "2 of 2 changed lines not covered"
    await platform.build({**files, "services/web/lib/x.sh": "a\nb\nc\n"})
    again = await platform.build({"services/web/lib/x.sh": "a\nb\nc\nd\n"})
    assert str(changed(again).offenders[0]) == "lib/x.sh:4 1 of 1 changed lines not covered"


async def test_another_root_is_another_build_of_the_commit(platform: Platform) -> None:
    files = {f"{name}/{path}": text for name in ("a", "b") for path, text in (("Procfile", f"web: {name}"),)}
    await set_root(platform, "a")
    first = await platform.build(files)
    await set_root(platform, "b")
    second = await platform.again(first, fresh=False)
    assert (manifest(first).run.command, manifest(second).run.command) == ("a", "b")
    assert second.reused is None
    third = await platform.again(first, fresh=False)
    assert third.reused == second.id


@pytest.mark.parametrize("root", ["nowhere", "file"])
async def test_a_root_that_the_commit_has_not_is_refused(platform: Platform, root: str, tmp_path: Path) -> None:
    await set_root(platform, root)
    build = await platform.build({"file": "", "Procfile": "web: x"})
    assert build.reason == (
        f"gate manifest: root: {root} is no folder of this commit; add it, or take all of the repository: "
        'PUT /apps/notes {"root": null}'
    )


def changed(build: Build) -> GateResult:
    return next(gate for gate in build.gates if gate.name == "changed_coverage")
