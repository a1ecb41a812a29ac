"""Serves Envoy's delta discovery protocol (ADS) for endpoints and certificates, on a unix socket. Each response holds
one resource, with the version of its file as its `system_version_info`: Envoy's statistics show that field of the
accepted response as the version of the cluster's endpoints. If one response is faulty, Envoy refuses only that one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Set
from pathlib import Path
from typing import Any

import grpc.aio

from services.keeper.certificates import CertificateFiles
from services.keeper.endpoints import EndpointFiles
from services.keeper.folder_watch import FolderWatch
from services.keeper.resource_file import ResourceFiles
from services.keeper.xds import METHOD, SERVICE, DeltaDiscoveryRequest, DeltaDiscoveryResponse

log = logging.getLogger(__name__)

ENDPOINTS, CERTIFICATES = "eds", "certificates"
MOST_ALIASES = 250  # each takes 20 KB of Envoy for each of the 16 groups of clients that name it

Name = tuple[str, str]
"""Type and name of a resource."""


class Subscriber:
    """Holds one connection of Envoy: the resources that Envoy has subscribed to, each with the version that Envoy has
    or was sent. When Envoy connects again, it names the versions that it already has, so after an interruption only
    changed resources are sent.
    """

    def __init__(self, kinds: Mapping[str, ResourceFiles], most_aliases: int = MOST_ALIASES) -> None:
        """`kinds` holds type → what reads the resources of that type."""
        self._kinds = kinds
        self._most_aliases = most_aliases
        self._versions: dict[Name, str | None] = {}
        self._aliases: dict[Name, None] = {}
        """The names that visitors chose, oldest first. Envoy has no bound for them, so the keeper has one."""
        self._due: asyncio.Queue[tuple[Name, bool]] = asyncio.Queue()
        self._sent = 0

    def take(self, request: Any) -> None:
        """Handles a message from Envoy, which subscribes to resources, unsubscribes from some, or accepts or refuses a
        response. A refusal is logged.
        """
        if request.type_url not in self._kinds:
            log.warning("Envoy asks for %s, which it gets from files", request.type_url)
            return
        if request.HasField("error_detail"):
            log.warning("Envoy refuses %s: %s", request.response_nonce, request.error_detail.message)
        for name in request.resource_names_unsubscribe:
            self._forget((request.type_url, name))
        for name in request.resource_names_subscribe:
            self._versions[request.type_url, name] = request.initial_resource_versions.get(name)
            self._due.put_nowait(((request.type_url, name), False))

    def changed(self, files: Set[Path] | None) -> None:
        """Queues for sending the resources whose files were moved into the folders or removed, even if their versions
        are the same: the proxy service moves a file there once more to have it sent again. None stands for all files;
        then only resources with a new version are sent.
        """
        for resource in self._versions:
            kind, name = resource
            if files is None or not files.isdisjoint(self._kinds[kind].files_of(name)):
                self._due.put_nowait((resource, files is not None))

    async def response(self) -> Any:
        """Waits until a resource has to be sent, and returns the response that holds it."""
        while True:
            resource, again = await self._due.get()
            if resource not in self._versions:
                continue  # Envoy has unsubscribed in the meantime
            kind, name = resource
            held = self._versions[resource]
            found = self._kinds[kind].read(name, held=held is not None)
            if found is None or (found.version == held and not again):
                continue
            self._sent += 1
            response = DeltaDiscoveryResponse(
                system_version_info=found.version, type_url=kind, nonce=f"{self._sent} {name}"
            )
            if found.message is None:
                response.removed_resources.append(name)
                self._forget(resource)
                return response
            self._versions[resource] = found.version
            sent = response.resources.add(name=name, version=found.version)
            sent.resource.type_url, sent.resource.value = kind, found.message
            if self._kinds[kind].is_alias(name):
                self._aliases[resource] = None
            if len(self._aliases) > self._most_aliases:
                oldest = next(iter(self._aliases))
                response.removed_resources.append(oldest[1])
                self._forget(oldest)
            return response

    def _forget(self, resource: Name) -> None:
        self._versions.pop(resource, None)
        self._aliases.pop(resource, None)


class Keeper:
    """Serves the resources in the files of `folder` (`<home>/envoy`) to any number of Envoys."""

    def __init__(self, folder: Path) -> None:
        kinds: tuple[ResourceFiles, ...] = (
            EndpointFiles(folder / ENDPOINTS),
            CertificateFiles(folder / CERTIFICATES),
        )
        self._folders = [folder / ENDPOINTS, folder / CERTIFICATES]
        self._kinds = {kind.type_url: kind for kind in kinds}
        self._subscribers: set[Subscriber] = set()

    async def run(self, socket: Path) -> None:
        """Serves at `socket` until it is cancelled. A socket that a killed keeper left behind is replaced."""
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        watch = FolderWatch(*self._folders)
        asyncio.get_running_loop().add_reader(watch, self._on_change, watch)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, DeltaDiscoveryRequest.FromString, DeltaDiscoveryResponse.SerializeToString
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        log.info("serving %s at %s", ", ".join(map(str, self._folders)), socket)
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(0)

    def _on_change(self, watch: FolderWatch) -> None:
        files = watch.changed()
        for subscriber in self._subscribers:
            subscriber.changed(files)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> None:
        subscriber = Subscriber(self._kinds)
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
