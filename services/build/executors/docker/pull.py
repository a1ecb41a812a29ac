"""Finds or pulls the images in which steps and services run."""

import contextlib
import threading
from collections.abc import Callable, Mapping
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
            if (error := _error_in(line)) is not None:
                raise NotStarted(f"the image {name} cannot be pulled: {error}")
        return engine.images.get(name)
    except APIError as error:
        raise NotStarted(f"the image {name} cannot be pulled: {error.explanation or error}") from error


def _error_in(line: Mapping[str, Any]) -> str | None:
    """Returns the error in a line of a pull's progress, or None. Engines after API 1.48 may leave out `error`."""
    detail = line.get("errorDetail") or {}
    return line.get("error") or detail.get("message")
