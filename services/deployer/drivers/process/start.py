"""Starts an instance as processes, below two shells that record its exit code."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from services.deployer.drivers.driver import InstanceSpec
from services.deployer.drivers.process.linux_process import process_stat
from services.deployer.drivers.process.record import InstanceFolder, ProcessRecord

# The outer shell records how the command ended. Both shells catch SIGTERM, which goes to the whole group, so that they
# outlive the app; unlike an ignored signal, a caught one has its default effect again in the programs they start. The
# outer shell enters the control group before it starts anything, so that no process of the app is ever outside.
SHIM = """trap : TERM INT HUP
if [ -z "$3" ] || echo $$ > "$3"
then sh -c "trap : TERM INT HUP
$1"
else echo "its control group cannot be entered"; (exit 126)
fi
echo $? > "$2"
"""
# As in a generated image, so that an app behaves alike as a process and in a container (there HOST is 0.0.0.0).
DEFAULTS = {"NODE_ENV": "production", "HOST": "127.0.0.1"}
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


def inherited_environment(platform_environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of the platform's environment that apps also get, such as PATH and the language. None of
    them is secret.
    """
    return {name: platform_environment[name] for name in INHERITED if name in platform_environment}


def spawn(
    spec: InstanceSpec,
    folder: InstanceFolder,
    record: ProcessRecord,
    cgroup_procs: Path | None,
    inherited: Mapping[str, str],
) -> ProcessRecord:
    """Starts the instance's command below two shells that record its exit code. If `cgroup_procs` is given (the file
    `cgroup.procs` of a control group), the shells enter that group first. `inherited` holds the variables from the
    platform's environment. Returns the record with `pid`. Raises OSError.
    """
    artifact = spec.artifact.ref
    path = [f"{artifact}/.venv/bin", f"{artifact}/node_modules/.bin", inherited.get("PATH", os.defpath)]
    marker_name, _, marker_value = record.marker.partition("=")
    environment = {
        **inherited,
        **DEFAULTS,
        **spec.environment,
        "PATH": ":".join(path),
        "PORT": str(record.port),
        "HOME": str(folder.home),
        "TMPDIR": str(folder.tmp),
        "SLIPWAY_INSTANCE": spec.id,
        marker_name: marker_value,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    shim = ["/bin/sh", "-c", SHIM, "slipway-instance", spec.command, str(folder.exit_code), str(cgroup_procs or "")]
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            shim,
            cwd=folder.app,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = 0  # the app may outlive this process, so Popen must not warn; process_stat collects the zombie
    stat = process_stat(process.pid)
    # A process that has ended already has no start time, and so counts as ended.
    return record.model_copy(update={"pid": process.pid, "start_ticks": stat.start_ticks if stat else None})
