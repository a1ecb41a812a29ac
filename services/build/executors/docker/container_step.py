"""Defines the script, the environment and the exit reasons of a step in a container. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from services.build.executors.executor import BRANCH, Workspace
from services.build.reports.path_resolver import CONTAINER_CHECKOUT
from shared.host.exit_words import is_signal, signal_name
from shared.manifest import size

WORKSPACE, HOME, CACHE = CONTAINER_CHECKOUT, "/slipway/home", "/slipway/cache"
SKIPPED = "/slipway/skipped"  # file inside the container: number of commands that were not run
# Arguments: folder of the kept `.venv`, program that makes a `.venv`, command that lists reports at the end, reports to
# remove, `--`, commands. Both outputs go to one pipe, which keeps their order.
SCRIPT = """\
exec 2>&1
kept=$1 make=$2 list=$3
shift 3
trap 'eval "$list"' EXIT
while [ "$1" != -- ]; do rm -f -- "$1"; shift; done
shift
[ -e .venv/.made ] || python3 -I -c "$make" "$kept" 2>/dev/null
for command; do
  shift
  printf '$ %s\\n' "$command"
  sh -e -c "$command" || { code=$?; echo $# > /slipway/skipped; exit $code; }
done
"""
# Makes `.venv` if the image has a complete Python and no earlier step has made it. Of parallel steps, one makes it and
# the others wait. That takes seconds, so an empty copy of it is kept
# for the app's next builds.
MAKE_VENV = """\
import ensurepip, fcntl, os, shutil, socket, subprocess, sys
kept = sys.argv[1]
lock = open(os.path.expanduser("~/.venv-lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX)
if not os.path.lexists(".venv"):
    if os.path.exists(kept):
        shutil.copytree(kept, ".venv", symlinks=True)
    else:
        subprocess.run([sys.executable, "-I", "-m", "venv", ".venv"], check=True)
        fresh = kept + "." + socket.gethostname()
        shutil.copytree(".venv", fresh, symlinks=True)
        try:
            os.rename(fresh, kept)
        except OSError:
            shutil.rmtree(fresh)
    open(".venv/.made", "w").close()
"""
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # for an image that sets no PATH
_LOOPBACK = re.compile(r"^[a-z]+://([^@/]*@)?(localhost|127\.|\[::1\])", re.IGNORECASE)


def container_side(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns those variables of `environment`, which come from the platform's own, that steps in containers get: all
    but PATH and those whose value is a local path or a URL on loopback.
    """
    return {
        name: value
        for name, value in environment.items()
        if name != "PATH" and not value.startswith(("/", "file:")) and not _LOOPBACK.match(value)
    }


def kept_venv(image_id: str) -> str:
    """Returns the path of the `.venv` that steps in containers of this image start from. It lies in the app's cache
    volume and holds no packages. Each image has a path of its own, since images have different versions of Python.
    """
    return f"{CACHE}/venv/{image_id.removeprefix('sha256:')[:12]}"


def step_environment(workspace: Workspace, environment: Mapping[str, str], image: Mapping[str, Any]) -> dict[str, str]:
    """Returns the environment variables of a step in a container: `environment` with the variables that the platform
    sets. `image` is the image's configuration; the folders of its PATH come after those of the checkout's programs.
    """
    own = dict(line.split("=", 1) for line in image.get("Env") or [] if "=" in line)
    path = [f"{WORKSPACE}/.venv/bin", f"{WORKSPACE}/node_modules/.bin", own.get("PATH") or _IMAGE_PATH]
    return {
        **environment,
        "PATH": ":".join(path),
        "VIRTUAL_ENV": f"{WORKSPACE}/.venv",
        "CI": "true",
        "CI_COMMIT_SHA": workspace.commit,
        BRANCH: workspace.branch or "",
        "CI_PIPELINE_NUMBER": str(workspace.number),
        "SLIPWAY_BUILD_ID": workspace.build,
        "HOME": HOME,
        "PIP_CACHE_DIR": f"{CACHE}/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "npm_config_cache": f"{CACHE}/npm",
        "PYTHONUNBUFFERED": "1",  # output of Python programs is shown as it is printed
    }


def exit_reason(code: int, memory_bytes: int | None) -> str:
    """Returns the reason why a step failed, worded to follow "the step"; empty for exit code 0. `memory_bytes` is the
    step's memory limit if the step exceeded it, else None.
    """
    if code == 0:
        return ""
    if memory_bytes is not None:
        return f"used more than its {size(memory_bytes)} of memory"
    if is_signal(code):
        return f"was ended by {signal_name(code - 128)}"
    return f"exited with {code}"
