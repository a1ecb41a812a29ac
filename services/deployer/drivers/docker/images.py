"""Finds and removes images that are not needed any more.

An image is known by its id: a tag may be moved to another one at any time, and one image may have several.
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
    """Returns True if the image may be removed: all its tags are the platform's, and it was not built within the last
    hour. The last tagging counts as build, as an unchanged commit keeps the image's first date.
    """
    tags = image.get("RepoTags") or []
    if not all(tag.startswith(OWN_TAG) for tag in tags):
        return False
    dates = [image.get("Created"), image.get("Metadata", {}).get("LastTagTime")]
    return all(now - moment(date) >= KEPT for date in dates if date)


def remove_unneeded(client: docker.DockerClient, stack: Stack, needed: Collection[str], now: datetime) -> None:
    """Removes the stack's images whose ids are not `needed`; skips one that is missing or in use (409)."""
    listed = client.api.images(filters={"label": stack.label})
    used = {container["ImageID"] for container in client.api.containers(all=True)}
    for image_id in {image["Id"] for image in listed} - used - {*needed}:
        with contextlib.suppress(ImageNotFound), unless_conflict():
            image = client.images.get(image_id).attrs
            if is_unneeded(image, now):
                # Forced only where it has several tags, which the engine asks for; it never takes one that runs.
                client.api.remove_image(image_id, force=len(image["RepoTags"] or []) > 1)
                log.info("the image %s of %s is not needed any more", image_id, image["Config"]["Labels"].get(APP))
