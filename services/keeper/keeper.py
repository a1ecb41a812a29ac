"""Serves Envoy's delta discovery protocol (ADS) for endpoints, on a unix socket. Each response holds the endpoints of
one cluster, with the version of their file as its `system_version_info`: Envoy's statistics show that field of the
accepted response as the version of the cluster's endpoints. If one response is faulty, Envoy refuses only that one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from services.keeper.assignments import file_of, read, without_endpoints
from services.keeper.folder_watch import FolderWatch
from services.keeper.xds import ASSIGNMENT, METHOD, SERVICE, DeltaDiscoveryRequest, DeltaDiscoveryResponse

log = logging.getLogger(__name__)


class Subscriber:
    """Holds one connection of Envoy: the resources that Envoy has subscribed to, each with the version that Envoy has
    or was sent. When Envoy connects again, it names the versions that it already has, so after an interruption only
    changed endpoints are sent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[str, str | None] = {}
        self._due: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._sent = 0

    def take(self, request: Any) -> None:
        """Handles a message from Envoy, which subscribes to resources, unsubscribes from some, or accepts or refuses a
        response. A refusal is logged.
        """
        if request.type_url != ASSIGNMENT:
            log.warning("Envoy asks for %s, which it gets from files", request.type_url)
            return
        if request.HasField("error_detail"):
            log.warning("Envoy refuses %s: %s", request.response_nonce, request.error_detail.message)
        for resource in request.resource_names_unsubscribe:
            self._versions.pop(resource, None)
        for resource in request.resource_names_subscribe:
            self._versions[resource] = request.initial_resource_versions.get(resource)
            self._due.put_nowait((resource, False))

    def moved(self, files: set[str] | None) -> None:
        """Queues for sending the resources whose files (by name) were moved into the folder, even if their versions are
        the same: the proxy service moves a file there once more to have it sent again. None stands for all files; then
        only resources with a new version are sent.
        """
        for resource in self._versions:
            if files is None or file_of(resource) in files:
                self._due.put_nowait((resource, files is not None))

    async def response(self) -> Any:
        """Waits until a resource has to be sent, and returns the response that holds it."""
        while True:
            resource, again = await self._due.get()
            if resource not in self._versions:
                continue  # Envoy has unsubscribed in the meantime
            held = self._versions[resource]
            assignment = read(self._folder, resource)
            if assignment is None and held is None:
                assignment = without_endpoints(resource)
            if assignment is None or (assignment.version == held and not again):
                continue
            self._versions[resource] = assignment.version
            self._sent += 1
            response = DeltaDiscoveryResponse(
                system_version_info=assignment.version, type_url=ASSIGNMENT, nonce=f"{self._sent} {resource}"
            )
            sent = response.resources.add(name=resource, version=assignment.version)
            sent.resource.type_url, sent.resource.value = ASSIGNMENT, assignment.message
            return response


class Keeper:
    """Serves the endpoints in the files of `folder` to any number of Envoys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._subscribers: set[Subscriber] = set()

    async def run(self, socket: Path) -> None:
        """Serves at `socket` until it is cancelled. A socket that a killed keeper left behind is replaced."""
        self._folder.mkdir(parents=True, exist_ok=True)
        watch = FolderWatch(self._folder)
        asyncio.get_running_loop().add_reader(watch, self._on_move, watch)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        log.info("serving %s at %s", self._folder, socket)
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(0)

    def _on_move(self, watch: FolderWatch) -> None:
        files = watch.moved()
        for subscriber in self._subscribers:
            subscriber.moved(files)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        subscriber = Subscriber(self._folder)
        self._subscribers.add(subscriber)
        log.info("an Envoy has connected")
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(subscriber, context))
                async for request in requests:
                    subscriber.take(request)
                sending.cancel()
        finally:
            self._subscribers.remove(subscriber)
            log.info("an Envoy has disconnected")

    async def _send(self, subscriber: Subscriber, context: Any) -> None:
        while True:
            await context.write(await subscriber.response())
