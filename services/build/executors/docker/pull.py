"""Finds the images in which steps and test services run, and pulls those that the engine lacks."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound


class GivenUp(Exception):
    """Reports that a build was stopped or cancelled while a step waited for an image or a test service."""


class NotStarted(Exception):
    """Reports that a container could not be started; the message says why."""


def image_named(engine: docker.DockerClient, name: str, say: Callable[[bytes], None], given_up: threading.Event) -> Any:
    """Returns the image with this name, and pulls it first if the engine lacks it. `say` gets lines about the progress,
    for the build's log. Blocks. Raises NotStarted if it cannot be pulled, and GivenUp once `given_up` is set during the
    pull.
    """
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
    """Returns the error in `line`, one message of the progress of a pull; None if it holds no error. Newer engines name
    it `errorDetail`, older ones `error`.
    """
    detail = line.get("errorDetail") or {}
    return line.get("error") or detail.get("message")
