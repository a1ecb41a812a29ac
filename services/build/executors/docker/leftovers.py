"""Finds and removes the containers, networks and volumes of builds and apps, by their labels."""

import contextlib
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import docker
from docker.errors import APIError, NotFound

from services.build.executors.executor import ExecutorObjects, Images
from shared.host.docker_engine import APP, OWN_TAG, STACK

log = logging.getLogger(__name__)

BUILD = "io.slipway.build"  # label of containers of steps, and of volumes that are removed with a build
CACHE = "io.slipway.cache"  # label of an app's cache volume, which stays after a build
FORCED_AFTER_S = 2.0
GONE_TIMEOUT_S = 30.0


class Leftovers:
    """Finds and removes the containers, networks, volumes and images of one stack. All methods block, and raise the
    errors of the engine's client.
    """

    def __init__(self, engine: Callable[[], docker.DockerClient], stack: str) -> None:
        self._engine = engine
        self._stack = stack

    def of_build(self, app: str, build: str) -> dict[str, str]:
        """Returns the labels that a build's containers, networks and volumes carry."""
        return {STACK: self._stack, APP: app, BUILD: build}

    def of_cache(self, app: str) -> dict[str, str]:
        """Returns the labels that an app's cache volume carries."""
        return {STACK: self._stack, APP: app, CACHE: app}

    def all(self) -> ExecutorObjects:
        """Returns the builds that still have containers, volumes or networks, and the apps that have a cache volume."""
        containers = self._engine().api.containers(all=True, filters=self._with(BUILD))
        volumes = self._engine().volumes.list(filters=self._with(BUILD))
        builds = {each["Labels"][BUILD] for each in containers} | {each.attrs["Labels"][BUILD] for each in volumes}
        builds |= {each.attrs["Labels"][BUILD] for each in self._networks(BUILD)}
        caches = self._engine().volumes.list(filters=self._with(CACHE))
        return ExecutorObjects(frozenset(builds), frozenset(each.attrs["Labels"][CACHE] for each in caches))

    def images(self) -> Images:
        """Returns (tag, id) of every image that is an artifact of this stack."""
        found = self._engine().api.images(filters={"label": [f"{STACK}={self._stack}", APP]})
        return frozenset((tag, each["Id"]) for each in found for tag in each["RepoTags"] or ())

    def remove(self, build: str) -> int:
        """Removes the containers, networks and volumes of a build; returns the number of removed containers."""
        filters = self._with(f"{BUILD}={build}")
        containers = self._engine().api.containers(all=True, filters=filters)
        for container in containers:
            remove_container(self._engine(), container["Id"])
        for network in self._networks(f"{BUILD}={build}"):
            remove_network(self._engine(), network.id)
        self._remove_volumes(f"{BUILD}={build}")
        return len(containers)

    def remove_these(self, objects: ExecutorObjects) -> None:
        for build in objects.builds:
            self.remove(build)
        for app in objects.apps:
            self._remove_volumes(f"{CACHE}={app}")
            self._remove_images(f"{APP}={app}")

    def _remove_images(self, label: str) -> None:
        """Removes the images of apps' releases that have this label. Keeps an image that a container uses, that a
        person has tagged, or on which a person has built another image.
        """
        engine = self._engine()
        used = {container["ImageID"] for container in engine.api.containers(all=True)}
        for image_id in {each["Id"] for each in engine.api.images(filters=self._with(label))} - used:
            try:
                tags = engine.images.get(image_id).tags
                if all(tag.startswith(OWN_TAG) for tag in tags):
                    engine.api.remove_image(image_id, force=len(tags) > 1)  # which the engine asks for
                    log.info("the image %s of an app that is removed is not needed any more", image_id)
            except NotFound:
                continue
            except APIError as error:
                if error.status_code != HTTPStatus.CONFLICT:  # a person has built another one on it
                    raise

    def _remove_volumes(self, label: str) -> None:
        for volume in self._engine().volumes.list(filters=self._with(label)):
            with contextlib.suppress(NotFound):
                volume.remove(force=True)
                log.info("the volume %s is not needed any more", volume.name)

    def _networks(self, label: str) -> list[Any]:
        return list(self._engine().networks.list(filters=self._with(label)))

    def _with(self, label: str) -> dict[str, list[str]]:
        return {"label": [f"{STACK}={self._stack}", label]}


def remove_container(engine: docker.DockerClient, container_id: str) -> None:
    """Removes a container and waits for up to 30 s until it is gone; does nothing if there is none. Raises APIError if
    the engine still refuses after that time.
    """
    deadline = time.monotonic() + GONE_TIMEOUT_S
    with contextlib.suppress(NotFound):
        while True:
            try:
                engine.api.remove_container(container_id, v=True, force=True)
            except NotFound:
                raise
            except APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            engine.api.inspect_container(container_id)


def remove_network(engine: docker.DockerClient, network: str) -> None:
    """Removes a network, by name or id; does nothing if there is none. For up to 30 s the engine may refuse, because it
    still counts a container that was removed while it started; after 2 s such containers are taken out of the network
    by force. Raises APIError if it still refuses then.
    """
    began = time.monotonic()
    with contextlib.suppress(NotFound):
        while True:
            try:
                return engine.api.remove_network(network)
            except APIError as error:
                lasted = time.monotonic() - began
                if error.status_code != HTTPStatus.FORBIDDEN or lasted > GONE_TIMEOUT_S:
                    raise
                if lasted > FORCED_AFTER_S:
                    _take_out(engine, network)
                time.sleep(0.05)


def _take_out(engine: docker.DockerClient, network: str) -> None:
    for container_id in engine.api.inspect_network(network)["Containers"] or ():
        with contextlib.suppress(APIError):
            engine.api.disconnect_container_from_network(container_id, network, force=True)
