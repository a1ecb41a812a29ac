from dataclasses import replace
from pathlib import Path

import pytest

from services.build.executors.docker.container_step import container_side, exit_reason, step_environment
from services.build.executors.docker.dockerfile import _CACHED, PYTHON, dockerfile
from services.build.executors.executor import Unsealed, Workspace
from services.build.executors.process.executor import passed_on
from services.build.inference.inference import LanguagePart
from shared.manifest import MIB
from tests.support.build.executors import workspace_in

RUN = f"RUN --mount=type=cache,id=slipway-notes,target=/var/cache/slipway {_CACHED} && "
PYTHON_PART = LanguagePart(
    "python", PYTHON, "requirements.txt", install=("pip install -r requirements.txt",), early=("requirements.txt",)
)
NODE_PART = LanguagePart(
    "node", "node:20-slim", "package.json", install=("npm ci",), build=("npm run build", "npm prune")
)
BARE = LanguagePart("python", PYTHON, "")
ENV = "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1"
END = ["ENV NODE_ENV=production HOME=/tmp TMPDIR=/tmp HOST=0.0.0.0", "USER 10001:10001"]


@pytest.mark.parametrize(
    ("stages", "lines"),
    [
        ([BARE], [f"FROM {PYTHON}", ENV, "WORKDIR /app", "COPY . ."]),
        (
            [PYTHON_PART],
            [
                f"FROM {PYTHON}",
                ENV,
                "WORKDIR /app",
                "COPY requirements.txt ./",
                f"{RUN}pip install -r requirements.txt",
                "COPY . .",
            ],
        ),
        (
            [NODE_PART],
            [
                "FROM node:20-slim",
                ENV,
                "WORKDIR /app",
                "COPY . .",
                f"{RUN}npm ci",
                f"{RUN}npm run build && npm prune",
            ],
        ),
        (  # an app of Python whose files Node builds
            [NODE_PART, PYTHON_PART],
            [
                "FROM node:20-slim AS part0",
                ENV,
                "WORKDIR /app",
                "COPY . .",
                f"{RUN}npm ci",
                f"{RUN}npm run build && npm prune",
                "RUN rm -rf node_modules",
                f"FROM {PYTHON}",
                ENV,
                "WORKDIR /app",
                "COPY --from=part0 /app/ ./",
                f"{RUN}pip install -r requirements.txt",
            ],
        ),
        (  # a site that Node builds
            [NODE_PART, replace(PYTHON_PART, build=("publish",), takes=("dist",))],
            [
                "FROM node:20-slim AS part0",
                ENV,
                "WORKDIR /app",
                "COPY . .",
                f"{RUN}npm ci",
                f"{RUN}npm run build && npm prune",
                "RUN rm -rf node_modules",
                f"FROM {PYTHON}",
                ENV,
                "WORKDIR /app",
                f"{RUN}pip install -r requirements.txt",
                "COPY --from=part0 /app/dist ./dist",
                f"{RUN}publish",
            ],
        ),
    ],
)
def test_each_part_is_a_stage(stages: list[LanguagePart], lines: list[str]) -> None:
    command = 'python app.py --name "a b" && true'
    last = 'CMD ["sh", "-c", "python app.py --name \\"a b\\" && true"]'
    assert dockerfile("notes", stages, command).splitlines() == [*lines, *END, last]


def test_the_apps_user_owns_its_volumes() -> None:
    lines = dockerfile("notes", [BARE], "./run", ["/data", "/app/cache"]).splitlines()
    assert "RUN mkdir -p /data /app/cache && chown -R 10001:10001 /data /app/cache" in lines[:-2]


@pytest.mark.parametrize("command", ["npm start", "python app.py --port $PORT", "./run", "gunicorn -b :$PORT 'a:b'"])
def test_one_program_takes_the_shells_place(command: str) -> None:
    assert dockerfile("notes", [BARE], command).splitlines()[-1] == f'CMD ["sh", "-c", "exec {command}"]'


@pytest.mark.parametrize("command", ["cd src && ./run", "A=1 ./run", ". env; ./run", ". env", "exec ./run", "a | b"])
def test_several_programs_stay_a_shells(command: str) -> None:
    assert dockerfile("notes", [BARE], command).splitlines()[-1] == f'CMD ["sh", "-c", "{command}"]'


def test_what_does_not_tell_how_it_is_run_is_refused() -> None:
    with pytest.raises(Unsealed, match="neither a Dockerfile nor"):
        dockerfile("notes", [BARE], None)


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
