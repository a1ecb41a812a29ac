"""Finds and removes images that are not needed any more. It identifies an image by its id, because a tag can be moved
to another image, and one image may have several tags.
"""

import contextlib
import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import docker
from docker.errors import ImageNotFound

from services.deployer.drivers.docker.connection import unless_conflict
from services.deployer.drivers.docker.container import Stack, moment
from shared.host.docker_engine import APP, OWN_TAG

log = logging.getLogger(__name__)

KEPT = timedelta(hours=1)


def is_unneeded(image: Mapping[str, Any], now: datetime) -> bool:
    """Returns True if the image may be removed: all its tags are the platform's, and it was neither built nor tagged
    within the last hour. (When an unchanged commit is built again, its image keeps the old date but is tagged anew.)
    """
    tags = image.get("RepoTags") or []
    if not all(tag.startswith(OWN_TAG) for tag in tags):
        return False
    dates = [image.get("Created"), image.get("Metadata", {}).get("LastTagTime")]
    return all(now - moment(date) >= KEPT for date in dates if date)


def remove_unneeded(client: docker.DockerClient, stack: Stack, needed: Collection[str], now: datetime) -> None:
    """Removes the stack's images whose ids are not in `needed`. Skips images that a container uses or that are already
    gone.
    """
    listed = client.api.images(filters={"label": stack.label})
    used = {container["ImageID"] for container in client.api.containers(all=True)}
    for image_id in {image["Id"] for image in listed} - used - {*needed}:
        with contextlib.suppress(ImageNotFound), unless_conflict():
            image = client.images.get(image_id).attrs
            if is_unneeded(image, now):
                # The engine requires force for an image with several tags; it never removes an image in use.
                client.api.remove_image(image_id, force=len(image["RepoTags"] or []) > 1)
                log.info("the image %s of %s is not needed any more", image_id, image["Config"]["Labels"].get(APP))
