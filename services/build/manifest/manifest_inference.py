"""Infers a manifest, by Heroku's conventions, for a repository without one. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from services.build.manifest.manifest_faults import Fault
from services.build.manifest.manifest_parser import BadManifest
from shared.manifest import Manifest, Run, Stage, Step

DOCKERFILE = "Dockerfile"
PYTHON_FILES = ("app.py", "main.py")
READ = (
    DOCKERFILE,
    "Procfile",
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "package-lock.json",
    *PYTHON_FILES,
)
_WEB = re.compile(r"^web:[ \t]*(\S.*)$", re.MULTILINE)


def manifest_of(app: str, files: Mapping[str, bytes], *, images: bool = False) -> Manifest:
    """Returns a manifest inferred from `files`: those of READ at the repository's root, with their content. Raises
    BadManifest with the remedy if they do not say how the app runs; if artifacts are `images`, a Dockerfile suffices.
    """
    command = run_command(files, images=images)
    if command is None and not (images and DOCKERFILE in files):
        remedy = "add a slipway.yml with `run: {command: …}`, or a Procfile with a `web:` line"
        known = [name for name in READ if name in files]
        found = f"{', '.join(known)} does not tell how to run it" if known else "nothing tells what this app is"
        raise BadManifest([Fault("slipway.yml", f"is missing, and {found}; {remedy}")])
    return Manifest(app=app, steps=_steps(files), run=Run(command=command))


def run_command(files: Mapping[str, bytes], *, images: bool = False) -> str | None:
    """Returns the command that runs the app: `web:` of the Procfile, npm's start script, or app.py or main.py; None
    without any, and if `images` is True and a Dockerfile exists. Raises BadManifest if package.json is not JSON."""
    if web := _WEB.search(files.get("Procfile", b"").decode(errors="replace")):
        return web[1].strip()
    if images and DOCKERFILE in files:
        return None
    if "start" in _scripts(files):
        return "npm start"
    return next((f"python {name}" for name in PYTHON_FILES if name in files), None)


def _steps(files: Mapping[str, bytes]) -> list[Step]:
    steps = []
    if "package.json" in files:
        install = "npm ci" if "package-lock.json" in files else "npm install"
        steps.append(Step(name="npm", stage=Stage.BUILD, commands=[install]))
    if "requirements.txt" in files:
        steps.append(Step(name="pip", stage=Stage.BUILD, commands=["pip install -r requirements.txt"]))
    elif "pyproject.toml" in files:
        steps.append(Step(name="pip", stage=Stage.BUILD, commands=["pip install ."]))
    test = _scripts(files).get("test", "")
    if test and "no test specified" not in test:
        steps.append(Step(name="test", stage=Stage.TEST, commands=["npm test"]))
    return steps


def _scripts(files: Mapping[str, bytes]) -> dict[str, str]:
    try:
        package: Any = json.loads(files.get("package.json", b"{}"))
    except (ValueError, RecursionError) as error:
        raise BadManifest([Fault("package.json", f"is not JSON: {error}")]) from error
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return {str(name): str(line) for name, line in scripts.items()} if isinstance(scripts, dict) else {}
