"""Chooses the image in which a repository's steps run, and writes a Dockerfile for a repository without one. Pure. A
Python app installs requirements.txt, or else the package that pyproject.toml describes; a Node app installs its
dependencies and runs its `build` script. An app that needs more brings its own Dockerfile."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from services.build.executors.executor import Unsealed
from shared.manifest import WORKDIR

NAME = "Dockerfile"
PYTHON, NODE = "python:3.13-slim", "node:20-slim"
READ = (NAME, "Procfile", "package.json", "package-lock.json", "requirements.txt", "pyproject.toml")
USER = "10001:10001"
_NODE_PROGRAMS = re.compile(r"^\s*(npm|npx|node|yarn|corepack)\b")
_PYTHON_PROGRAMS = re.compile(r"^\s*(python3?|pip3?|pytest|gunicorn|uvicorn|flask|hypercorn)\b")
_LOCAL_REQUIREMENT = re.compile(r"^\s*(-(?!-hash)|[./]|.*@\s*file:|.*\.(whl|zip|tar\.gz)\s*$)", re.MULTILINE)
# A shell that waits for its program takes SIGTERM for itself, and the program is killed with the container: one that
# can take the shell's place does. A command of several programs is left as it is.
_ONE_PROGRAM = re.compile(r"^(?!(cd|exec|export|set|eval|if|for|while|until|case)\b|\.\s)[\w./-]+(\s[^;&|\n()`]*)?$")
_INSTALL_SCRIPTS = {"preinstall", "install", "postinstall", "prepare"}


def base_image(files: Mapping[str, bytes], commands: Sequence[str]) -> str:
    """Returns the public image (Node or Python) in which the commands run: that of the first command that calls either
    program, else by the names of `files`.
    """
    for command in commands:
        if _NODE_PROGRAMS.match(command):
            return NODE
        if _PYTHON_PROGRAMS.match(command):
            return PYTHON
    python = "requirements.txt" in files or "pyproject.toml" in files
    return NODE if "package.json" in files and not python else PYTHON


def dockerfile(app: str, files: Mapping[str, bytes], command: str | None, volumes: Sequence[str] = ()) -> str:
    """Returns the text of a Dockerfile for a repository with these root files, which runs `command`. It caches packages
    in BuildKit under the name `app`, and makes the folders `volumes` with the app's user as owner. Raises Unsealed
    without a `command`, and if package.json is not JSON.
    """
    if not command:
        raise Unsealed("has neither a Dockerfile nor `run: {command: …}` in slipway.yml; one of them is needed")
    image = base_image(files, [command])
    install = _node(app, files) if image == NODE else _python(app, files)
    places = " ".join(volumes)
    lines = [
        f"FROM {image}",
        "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NODE_ENV=production HOME=/tmp HOST=0.0.0.0",
        f"WORKDIR {WORKDIR}",
        *install,
        *([f"RUN mkdir -p {places} && chown -R {USER} {places}"] if volumes else []),
        f"USER {USER}",
        f"CMD {json.dumps(['sh', '-c', f'exec {command}' if _ONE_PROGRAM.match(command) else command])}",
    ]
    return "\n".join(lines) + "\n"


def _python(app: str, files: Mapping[str, bytes]) -> list[str]:
    cache = f"--mount=type=cache,id=slipway-{app}-pip,target=/var/cache/pip"
    install = (
        f"RUN {cache} pip install --cache-dir /var/cache/pip --disable-pip-version-check --root-user-action ignore"
    )
    if "requirements.txt" in files:
        step = f"{install} -r requirements.txt"
        if _LOCAL_REQUIREMENT.search(files["requirements.txt"].decode(errors="replace")):
            return ["COPY . .", step]
        return ["COPY requirements.txt ./", step, "COPY . ."]
    if _is_package(files.get("pyproject.toml", b"")):
        return ["COPY . .", f"{install} ."]
    return ["COPY . ."]


def _node(app: str, files: Mapping[str, bytes]) -> list[str]:
    if "package.json" not in files:
        return ["COPY . ."]
    package = _package(files["package.json"])
    scripts = package.get("scripts")
    scripts = scripts if isinstance(scripts, dict) else {}
    cache = f"RUN --mount=type=cache,id=slipway-{app}-npm,target=/var/cache/npm"
    npm = f"npm {'ci' if 'package-lock.json' in files else 'install'} --cache /var/cache/npm --no-audit --no-fund"
    if "build" in scripts:  # it may need what is for development only
        return ["COPY . .", f"{cache} {npm} --include=dev && npm run build && npm prune --omit=dev"]
    step = f"{cache} {npm} --omit=dev"
    if "workspaces" in package or _INSTALL_SCRIPTS & scripts.keys() or b'"file:' in files["package.json"]:
        return ["COPY . .", step]
    return ["COPY package*.json ./", step, "COPY . ."]


def _package(data: bytes) -> dict[str, Any]:
    try:
        package = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unsealed(f"has a package.json that is not JSON: {error}") from error
    return package if isinstance(package, dict) else {}


def _is_package(pyproject: bytes) -> bool:
    """Returns True if pyproject.toml describes a package and does not only configure tools."""
    try:
        tables = tomllib.loads(pyproject.decode())
    except ValueError:
        return False
    return "project" in tables or "build-system" in tables
