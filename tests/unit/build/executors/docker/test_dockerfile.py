import json
from pathlib import Path

import pytest

from services.build.executors.docker.container_step import container_side, exit_reason, step_environment
from services.build.executors.docker.dockerfile import NODE, PYTHON, base_image, dockerfile
from services.build.executors.executor import Unsealed, Workspace
from services.build.executors.process.executor import passed_on
from shared.manifest import MIB
from tests.support.build.executors import workspace_in

PIP = (
    "RUN --mount=type=cache,id=slipway-notes-pip,target=/var/cache/pip pip install --cache-dir /var/cache/pip "
    "--disable-pip-version-check --root-user-action ignore"
)
NPM = "RUN --mount=type=cache,id=slipway-notes-npm,target=/var/cache/npm npm"
QUIET = "--cache /var/cache/npm --no-audit --no-fund"
PACKAGE = b'[project]\nname = "notes"\n'


@pytest.mark.parametrize(
    ("names", "commands", "image"),
    [
        ([], ["make"], PYTHON),
        (["package.json"], ["make"], NODE),
        (["package.json", "requirements.txt"], ["make"], PYTHON),
        (["package.json", "requirements.txt"], ["npm ci"], NODE),
        (["package.json"], ["cd x", "pip install y"], PYTHON),
        (["requirements.txt"], ["nodemon"], PYTHON),
    ],
)
def test_the_image_that_fits(names: list[str], commands: list[str], image: str) -> None:
    assert base_image(dict.fromkeys(names, b""), commands) == image


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        ({}, ["COPY . ."]),
        ({"pyproject.toml": b"[tool.ruff]\n"}, ["COPY . ."]),
        ({"pyproject.toml": b"not toml"}, ["COPY . ."]),
        ({"pyproject.toml": PACKAGE}, ["COPY . .", f"{PIP} ."]),
        (
            {"requirements.txt": b"flask==3 --hash=sha256:0\n    --hash=sha256:1\n", "pyproject.toml": PACKAGE},
            ["COPY requirements.txt ./", f"{PIP} -r requirements.txt", "COPY . ."],
        ),
        ({"requirements.txt": b"-r base.txt\n"}, ["COPY . .", f"{PIP} -r requirements.txt"]),
        ({"requirements.txt": b"flask\n./mine\n"}, ["COPY . .", f"{PIP} -r requirements.txt"]),
    ],
)
def test_a_python_apps_packages(files: dict[str, bytes], lines: list[str]) -> None:
    assert dockerfile("notes", files, "python app.py").splitlines()[3:-2] == lines


@pytest.mark.parametrize(
    ("package", "lock", "lines"),
    [
        ({}, True, ["COPY package*.json ./", f"{NPM} ci {QUIET} --omit=dev", "COPY . ."]),
        ({}, False, ["COPY package*.json ./", f"{NPM} install {QUIET} --omit=dev", "COPY . ."]),
        ({"scripts": {"postinstall": "x"}}, True, ["COPY . .", f"{NPM} ci {QUIET} --omit=dev"]),
        ({"dependencies": {"mine": "file:mine"}}, True, ["COPY . .", f"{NPM} ci {QUIET} --omit=dev"]),
        (
            {"scripts": {"build": "x"}},
            True,
            ["COPY . .", f"{NPM} ci {QUIET} --include=dev && npm run build && npm prune --omit=dev"],
        ),
    ],
)
def test_a_node_apps_packages(package: dict[str, object], lock: bool, lines: list[str]) -> None:
    files = {"package.json": json.dumps(package).encode(), **({"package-lock.json": b"{}"} if lock else {})}
    assert dockerfile("notes", files, "npm start").splitlines()[3:-2] == lines


def test_the_whole_file() -> None:
    assert dockerfile("notes", {}, 'python app.py --name "a b" && true').splitlines() == [
        "FROM python:3.13-slim",
        "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NODE_ENV=production HOME=/tmp HOST=0.0.0.0",
        "WORKDIR /app",
        "COPY . .",
        "USER 10001:10001",
        'CMD ["sh", "-c", "python app.py --name \\"a b\\" && true"]',
    ]


def test_the_apps_user_owns_its_volumes() -> None:
    lines = dockerfile("notes", {}, "./run", ["/data", "/app/cache"]).splitlines()
    assert lines[-3:-1] == [
        "RUN mkdir -p /data /app/cache && chown -R 10001:10001 /data /app/cache",
        "USER 10001:10001",
    ]


@pytest.mark.parametrize("command", ["npm start", "python app.py --port $PORT", "./run", "gunicorn -b :$PORT 'a:b'"])
def test_one_program_takes_the_shells_place(command: str) -> None:
    assert dockerfile("notes", {}, command).splitlines()[-1] == f'CMD ["sh", "-c", "exec {command}"]'


@pytest.mark.parametrize("command", ["cd src && ./run", "A=1 ./run", ". env; ./run", ". env", "exec ./run", "a | b"])
def test_several_programs_stay_a_shells(command: str) -> None:
    assert dockerfile("notes", {}, command).splitlines()[-1] == f'CMD ["sh", "-c", "{command}"]'


def test_what_does_not_tell_how_it_is_run_is_refused() -> None:
    with pytest.raises(Unsealed, match="neither a Dockerfile nor"):
        dockerfile("notes", {"package.json": b"{}"}, None)
    with pytest.raises(Unsealed, match="not JSON"):
        dockerfile("notes", {"package.json": b"{"}, "npm start")


def test_what_of_the_platforms_environment_holds_in_a_container() -> None:
    given = {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/etc/ca.crt",
        "PIP_FIND_LINKS": "file:///wheels",
        "PIP_INDEX_URL": "https://user@pypi.example/simple",
        "HTTP_PROXY": "http://user:secret@127.0.0.1:3128",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "SLIPWAY_TOKEN": "x",
    }
    assert set(container_side(passed_on(given))) == {"PIP_INDEX_URL", "HTTPS_PROXY"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


def test_an_images_own_path_stays_behind_the_workspaces(workspace: Workspace) -> None:
    programs = "/workspace/.venv/bin:/workspace/node_modules/.bin"
    assert step_environment(workspace, {}, {"Env": ["PATH=/go/bin"]})["PATH"] == f"{programs}:/go/bin"
    assert step_environment(workspace, {}, {"Env": None})["PATH"].startswith(f"{programs}:/usr/local/sbin:")


@pytest.mark.parametrize(
    ("code", "memory", "reason"),
    [
        (0, None, ""),
        (2, None, "exited with 2"),
        (137, None, "was ended by SIGKILL"),
        (168, None, "was ended by signal 40"),
        (137, 64 * MIB, "used more than its 64 MiB of memory"),
        (255, None, "exited with 255"),
    ],
)
def test_an_exit_code_is_exit_reason(code: int, memory: int | None, reason: str) -> None:
    assert exit_reason(code, memory) == reason
