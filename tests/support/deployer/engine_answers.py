"""Records what a Docker Engine answers: `python -m tests.support.deployer.engine_answers NAME`.

The engine that `DOCKER_HOST` names needs the base image. Paths and names of the machine are left out.
"""

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "unit/deployer/drivers/docker/engines"
CONTAINER = (
    "Id",
    "Name",
    "Image",
    "Created",
    "State",
    "Config",
    "HostConfig",
    "NetworkSettings",
    "ImageManifestDescriptor",
)
HOST = ("Memory", "MemorySwap", "CapAdd", "CapDrop", "SecurityOpt", "Init", "PidsLimit")
LISTED = ("Id", "Names", "ImageID", "Labels", "State", "NetworkSettings")
IMAGE = ("Id", "RepoTags", "RepoDigests", "Created", "Config", "Size", "Metadata", "Descriptor")
EVENT = ("status", "id", "from", "Type", "Action", "Actor", "time", "timeNano")


def parts(answer: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: answer[name] for name in names if name in answer}


def recorded() -> dict[str, Any]:
    """Starts a container as the driver does, and lets it end by itself."""
    import docker

    from services.deployer.drivers.docker.container import Stack, creation
    from services.deployer.drivers.driver import InstanceSpec
    from shared.manifest import MIB
    from shared.models import Artifact
    from tests.support.deployer.engine import BASE

    client: Any = docker.from_env()
    stack = Stack(f"test-{uuid.uuid4().hex[:8]}", f"slipway-test-{uuid.uuid4().hex[:8]}")
    network = client.networks.create(stack.network)
    image = client.images.get(BASE)
    spec = InstanceSpec(
        "notes-r1-1",
        Artifact(kind="image", ref=BASE, digest=str(image.id)),
        "until [ -e /tmp/end ]; do sleep 0.1; done; exit 3",
        {"SLIPWAY_RELEASE": "notes-r1", "SLIPWAY_APP": "notes", "SLIPWAY_ENVIRONMENT": "production"},
        64 * MIB,
        9090,
    )
    container: Any = client.containers.create(**creation(spec, stack, ("CHOWN", "SETUID")))
    try:
        events = client.events(decode=True, filters={"container": container.id, "event": ["die", "oom"]})
        container.start()
        running, listed = (
            client.api.inspect_container(container.id),
            client.api.containers(filters={"id": container.id}),
        )
        container.exec_run(["touch", "/tmp/end"])
        event = next(iter(events))
        events.close()
        container.wait()
        answers = {
            "version": parts(client.api.version(), ("Version", "ApiVersion", "MinAPIVersion")),
            "store": client.api.info()["Driver"],
            "stack": stack.id,
            "network": stack.network,
            "image": parts(client.api.inspect_image(image.id), IMAGE),
            "running": parts(running, CONTAINER),
            "listed": [parts(each, LISTED) for each in listed],
            "ended": parts(client.api.inspect_container(container.id), CONTAINER),
            "event": parts(event, EVENT),
        }
        for each in (answers["running"], answers["ended"]):
            each["NetworkSettings"].pop("SandboxKey")
            each["HostConfig"] = parts(each["HostConfig"], HOST)
        for each in (answers["running"], answers["ended"], answers["image"]):
            each["Config"]["Env"] = [line for line in each["Config"].get("Env") or [] if line.startswith("PORT=")]
        return answers
    finally:
        container.remove(force=True, v=True)
        network.remove()
        client.close()


if __name__ == "__main__":
    answers = recorded()
    name = sys.argv[1] if len(sys.argv) > 1 else f"{answers['version']['Version']}-{answers['store']}"
    (FOLDER / f"{name}.json").write_text(json.dumps(answers, indent=1, sort_keys=True) + os.linesep)
