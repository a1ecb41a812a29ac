"""Writes a Dockerfile from the inferred parts of a commit. Pure. An app that needs other instructions has to bring its
own Dockerfile.
"""

import json
import re
from collections.abc import Sequence

from services.build.executors.executor import Unsealed
from services.build.inference.inference import LanguagePart
from shared.manifest import WORKDIR

NAME = "Dockerfile"
PYTHON = "python:3.13-slim"
USER = "10001:10001"
CACHE = "/var/cache/slipway"
_CACHED = (
    f"export PIP_CACHE_DIR={CACHE}/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "
    f"UV_CACHE_DIR={CACHE}/uv npm_config_cache={CACHE}/npm npm_config_audit=false npm_config_fund=false"
)
# A shell that waits for its program receives SIGTERM itself, and the program is killed with the container. So `exec` is
# put before a command of one program. A command of several programs is left as it is.
_ONE_PROGRAM = re.compile(r"^(?!(cd|exec|export|set|eval|if|for|while|until|case)\b|\.\s)[\w./-]+(\s[^;&|\n()`]*)?$")


def dockerfile(app: str, stages: Sequence[LanguagePart], command: str | None, volumes: Sequence[str] = ()) -> str:
    """Returns the text of a Dockerfile with a build stage for each of `stages`; the last one runs `command`. Packages
    are cached in BuildKit under the name `app`. The folders `volumes` are made and belong to the app's user. Raises
    Unsealed without a `command` or `stages`.
    """
    if not command or not stages:
        raise Unsealed("has neither a Dockerfile nor `run: {command: …}` in slipway.yml; one of them is needed")
    lines: list[str] = []
    for number, part in enumerate(stages):
        lines += _stage(app, part, number, is_last=part is stages[-1])
    places = " ".join(volumes)
    lines += [
        *([f"RUN mkdir -p {places} && chown -R {USER} {places}"] if volumes else []),
        "ENV NODE_ENV=production HOME=/tmp TMPDIR=/tmp HOST=0.0.0.0",
        f"USER {USER}",
        f"CMD {json.dumps(['sh', '-c', f'exec {command}' if _ONE_PROGRAM.match(command) else command])}",
    ]
    return "\n".join(lines) + "\n"


def _stage(app: str, part: LanguagePart, number: int, *, is_last: bool) -> list[str]:
    everything = ["COPY . ."]
    if number:
        everything = [f"COPY --from=part{number - 1} {WORKDIR}/{each} ./{each}" for each in part.takes or [""]]
    install = [_run(app, part.install)] if part.install else []
    early = part.early and not number
    first = [f"COPY {' '.join(part.early)} ./", *install] if early else []
    if part.takes:
        first, early = install, True
    return [
        f"FROM {part.image}{'' if is_last else f' AS part{number}'}",
        "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
        f"WORKDIR {WORKDIR}",
        *first,
        *everything,
        *([] if early else install),
        *([_run(app, part.build)] if part.build else []),
        *([] if is_last else ["RUN rm -rf node_modules"]),
    ]


def _run(app: str, commands: Sequence[str]) -> str:
    cache = f"--mount=type=cache,id=slipway-{app},target={CACHE}"
    return f"RUN {cache} {' && '.join([_CACHED, *commands])}"
