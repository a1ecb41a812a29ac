"""Finds or pulls the images in which steps and services run."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound


class GivenUp(Exception):
    """Reports that the build does not wait for the step any more, so its container need not start."""


class NotStarted(Exception):
    """Reports that a container could not be started; the message says why."""


def image_named(engine: docker.DockerClient, name: str, say: Callable[[bytes], None], given_up: threading.Event) -> Any:
    """Returns the image of that name, pulled if the engine lacks it. `say` gets the progress. Blocks. Raises NotStarted
    if it cannot be pulled, and GivenUp once `given_up` is set."""
    with contextlib.suppress(ImageNotFound):
        return engine.images.get(name)
    say(f"pulling {name}\n".encode())
    try:
        for line in engine.api.pull(name, stream=True, decode=True):
            if given_up.is_set():
                raise GivenUp
            if "error" in line:
                raise NotStarted(f"the image {name} cannot be pulled: {line['error']}")
        return engine.images.get(name)
    except APIError as error:
        raise NotStarted(f"the image {name} cannot be pulled: {error.explanation or error}") from error
