"""Maps an instance to a container (name, labels, isolation), and the engine's inspection of a container to a status.
Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.deployer.drivers.docker.capabilities import capabilities_of
from services.deployer.drivers.driver import KILLED, InstanceSpec, InstanceStatus, VolumeMount
from shared.host.docker_engine import APP, STACK

INSTANCE = "io.slipway.instance"
ENVIRONMENT = "io.slipway.environment"
VARIABLE_OF_LABEL = {APP: "SLIPWAY_APP", ENVIRONMENT: "SLIPWAY_ENVIRONMENT"}
RELEASE = "io.slipway.release"
CREATED = "created"
PIDS = 512
LOGS = {"max-size": "8m", "max-file": "2"}
# Exit codes of an app that ends on SIGTERM (0, 143), ignores it (137), or whose engine vanished (255).
SHUTDOWN_EXIT_CODES = (0, 137, 143, 255)


@dataclass(frozen=True)
class Stack:
    """Identifies one installation of the platform (a stack) on a container engine, which several stacks may share. All
    containers, images, networks and volumes of a stack have a label with its `id`; a stack never changes those of
    another one.
    """

    id: str
    network: str
    """Name of the network that all instances of the stack share."""

    def container_name(self, instance_id: str) -> str:
        """Returns the name of the instance's container. Names are unique, so the engine refuses a second container for
        an instance.
        """
        return f"slipway-{self.id}-{instance_id}"

    def volume_name(self, volume: VolumeMount) -> str:
        return f"slipway-{self.id}-{volume.app}-{volume.environment}-{volume.name}"

    def volume_labels(self, volume: VolumeMount) -> dict[str, str]:
        """Returns the labels that name the stack, app and environment of a volume. Its name alone is not enough: since
        names may contain hyphens, volumes of two apps could have the same name.
        """
        return {STACK: self.id, APP: volume.app, ENVIRONMENT: volume.environment}

    @property
    def label(self) -> str:
        return f"{STACK}={self.id}"

    @property
    def instances(self) -> list[str]:
        """Returns the labels by which the engine finds the stack's instances. Containers of builds have only the first
        of these labels.
        """
        return [self.label, INSTANCE]


def creation(spec: InstanceSpec, stack: Stack, capabilities: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the arguments with which the engine creates the instance's container. The container keeps only
    `capabilities`. The image is named by its digest, since a tag may be moved. `memswap_limit` is set because the
    engine would otherwise allow the same amount of swap in addition; `init`, because an app without a handler ignores
    SIGTERM if it is the first process.
    """
    app_labels = {label: spec.environment.get(name, "") for label, name in VARIABLE_OF_LABEL.items()}
    release = spec.environment.get("SLIPWAY_RELEASE", "")
    volume_paths = {volume.variable: volume.path for volume in spec.volumes}
    mounts = [{"Type": "volume", "Source": stack.volume_name(volume), "Target": volume.path} for volume in spec.volumes]
    return {
        "image": spec.artifact.digest,
        "name": stack.container_name(spec.id),
        "entrypoint": ["sh", "-c", spec.command] if spec.command else None,
        "environment": {**spec.environment, **volume_paths, "PORT": str(spec.port), "SLIPWAY_INSTANCE": spec.id},
        "labels": {STACK: stack.id, INSTANCE: spec.id, RELEASE: release, **app_labels},
        "network": stack.network,
        "mounts": mounts,
        "init": True,
        "cap_drop": ["ALL"],
        "cap_add": list(capabilities),
        "security_opt": ["no-new-privileges"],
        "pids_limit": PIDS,
        "log_config": {"Type": "json-file", "Config": LOGS},
        "mem_limit": spec.memory,
        "memswap_limit": spec.memory,
    }


def status_of(
    attributes: Mapping[str, Any],
    network: str,
    shut_down_until: datetime | None,
    oom_kills: int,
    was_oom: bool | None,
) -> InstanceStatus:
    """Returns the status of a container from the engine's inspection of it. `shut_down_until` is when the engine was
    last started or the platform last stopped. `oom_kills` counts the kills at the memory limit in the engine's events.
    `was_oom` is True if one of them ended the container, None if unknown. (The engine's own field `OOMKilled` is also
    true if a kill hit only a child process.)
    """
    state, labels = attributes["State"], attributes["Config"]["Labels"]
    running = bool(state["Running"])
    exit_code = None if running else int(state["ExitCode"])
    had_oom = not running and bool(state["OOMKilled"])
    interrupted = not running and not was_oom and _was_shut_down(state, shut_down_until)
    oom_killed = had_oom and exit_code == KILLED and was_oom is not False and not interrupted
    return InstanceStatus(
        id=labels[INSTANCE],
        address=_address(attributes, network) if running else "",
        running=running,
        started_at=moment(state["StartedAt"]),
        exit_code=exit_code,
        interrupted=interrupted,
        oom_killed=oom_killed,
        oom_kills=0 if running else max(oom_kills, int(had_oom)),
        capabilities=capabilities_of(attributes),
        release=labels.get(RELEASE, ""),
        artifact=attributes["Image"],
    )


def moment(engine_time: str) -> datetime:
    """Returns the time that an RFC 3339 text of the engine gives; its nanoseconds are cut to microseconds."""
    return datetime.fromisoformat(engine_time)


def has_started(attributes: Mapping[str, Any]) -> bool:
    """Returns False for a container that was created but never started, because the start was interrupted or failed."""
    return bool(attributes["State"]["Status"] != CREATED)


def memory_limit(attributes: Mapping[str, Any]) -> int:
    return int(attributes["HostConfig"]["Memory"])


def engine_start(networks: Iterable[Mapping[str, Any]]) -> datetime | None:
    """Returns the time at which the engine was started: when its network `bridge` was created, which happens at each
    start. Returns None if there is no such network (`--bridge=none`). The start of the engine ends all older
    containers, except with `live-restore`.
    """
    return next((moment(each["Created"]) for each in networks if each["Name"] == "bridge"), None)


def _address(attributes: Mapping[str, Any], network: str) -> str:
    """Returns the container's address, `ip:port`; empty if the container is not attached to the network."""
    ip = attributes["NetworkSettings"]["Networks"].get(network, {}).get("IPAddress", "")
    port = next((each[5:] for each in attributes["Config"]["Env"] if each.startswith("PORT=")), "")
    return f"{ip}:{port}" if ip else ""


def _was_shut_down(state: Mapping[str, Any], shut_down_until: datetime | None) -> bool:
    """Returns True if the container ended with the engine or the platform: at or before `shut_down_until` (the last
    start of the engine or stop of the platform), and with the exit code 0, 137, 143 or 255, which such an end causes.
    """
    ended_before = shut_down_until is not None and moment(state["FinishedAt"]) <= shut_down_until
    return ended_before and state["ExitCode"] in SHUTDOWN_EXIT_CODES
