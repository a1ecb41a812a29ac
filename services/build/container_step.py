"""What a step finds in its container, and what its end means. Pure."""

import re
import signal
from collections.abc import Mapping
from typing import Any

from services.build.executor import Workspace
from shared.manifest import size

WORKSPACE, HOME, CACHE = "/workspace", "/slipway/home", "/slipway/cache"
SKIPPED = "/slipway/skipped"  # in the container itself: how many commands were left when one failed
# Its arguments: where a new `.venv` is kept, reports to clear, `--`, commands. One pipe for both outputs keeps their
# order. `.venv` is made where the image has a whole Python and no step before has made it; that takes seconds, so a
# copy of it, with nothing installed, is kept for the app's next builds.
SCRIPT = """\
exec 2>&1
kept=$1
shift
while [ "$1" != -- ]; do rm -f -- "$1"; shift; done
shift
if [ ! -e .venv ] && [ -e "$kept" ]; then
  cp -a "$kept" .venv
elif [ ! -e .venv ] && python3 -c 'import ensurepip' 2>/dev/null; then
  fresh=$kept.$(hostname)
  python3 -m venv .venv && mkdir -p "${kept%/*}" && cp -a .venv "$fresh" && mv -T "$fresh" "$kept" || rm -rf "$fresh"
fi
for command; do
  shift
  printf '$ %s\\n' "$command"
  sh -e -c "$command" || { code=$?; echo $# > /slipway/skipped; exit $code; }
done
"""
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of an image that says none
_LOOPBACK = re.compile(r"^[a-z]+://([^@/]*@)?(localhost|127\.|\[::1\])", re.IGNORECASE)


def container_side(environment: Mapping[str, str]) -> dict[str, str]:
    """What of a process's environment also holds in a container: no PATH, no path of this machine, nothing that
    listens on its loopback."""
    return {
        name: value
        for name, value in environment.items()
        if name != "PATH" and not value.startswith(("/", "file:")) and not _LOOPBACK.match(value)
    }


def kept_venv(image_id: str) -> str:
    """Another image may have another Python."""
    return f"{CACHE}/venv/{image_id.removeprefix('sha256:')[:12]}"


def step_environment(workspace: Workspace, environment: Mapping[str, str], image: Mapping[str, Any]) -> dict[str, str]:
    """`image` is the configuration of the step's image, whose own PATH is kept, behind the workspace's programs."""
    own = dict(line.split("=", 1) for line in image.get("Env") or [] if "=" in line)
    path = [f"{WORKSPACE}/.venv/bin", f"{WORKSPACE}/node_modules/.bin", own.get("PATH") or _IMAGE_PATH]
    return {
        **environment,
        "PATH": ":".join(path),
        "VIRTUAL_ENV": f"{WORKSPACE}/.venv",
        "CI": "true",
        "CI_COMMIT_SHA": workspace.commit,
        "CI_COMMIT_BRANCH": workspace.branch or "",
        "CI_PIPELINE_NUMBER": str(workspace.number),
        "SLIPWAY_BUILD_ID": workspace.build,
        "HOME": HOME,
        "PIP_CACHE_DIR": f"{CACHE}/pip",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "npm_config_cache": f"{CACHE}/npm",
        "PYTHONUNBUFFERED": "1",  # what a step prints is shown as it comes
    }


def told(code: int, memory_bytes: int | None) -> str:
    """Why a step did not succeed, by its container's exit code; `memory_bytes` is the limit if it ran into that."""
    if code == 0:
        return ""
    if memory_bytes is not None:
        return f"used more than its {size(memory_bytes)} of memory"
    if code - 128 in set(signal.Signals):
        return f"was ended by {signal.Signals(code - 128).name}"
    return f"exited with {code}"
