"""Reads Envoy's admin interface (a unix socket): accepted versions, clusters, visitors' connections."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from pydantic_core import from_json

from services.proxy.envoy.bootstrap import CDS_FILE, KEEPER, version_of
from services.proxy.envoy.clusters import cluster_name, eds_file
from services.proxy.envoy.routes import LISTENERS, rds_file
from services.proxy.routes.route import Route
from shared.errors import Unavailable
from shared.manifest import health_check
from shared.models import Track

CONNECTIONS = "server.total_connections"
ROUTE_FILES = tuple(rds_file(listener) for listener in LISTENERS)


@dataclass(frozen=True)
class Host:
    """Holds one endpoint of one of Envoy's clusters. `address` is `host:port`. `healthy` is True if the cluster's load
    balancer may choose the endpoint.
    """

    cluster: str
    address: str
    healthy: bool
    active: int
    """Number of requests in flight; health checks do not count."""


@dataclass(frozen=True)
class Clusters:
    """Holds the names of the clusters that Envoy has finished loading, and their endpoints."""

    names: frozenset[str]
    hosts: tuple[Host, ...]

    def active(self, cluster: str) -> dict[str, int]:
        """Returns address → number of requests in flight, for the cluster."""
        return {host.address: host.active for host in self._hosts_of.get(cluster, ())}

    def healthy(self, cluster: str) -> frozenset[str]:
        """Returns the addresses (`host:port`) among which the cluster's load balancer chooses."""
        return frozenset(host.address for host in self._hosts_of.get(cluster, ()) if host.healthy)

    def unhealthy(self, route: Route) -> dict[str, str]:
        """Returns instance id → what is wrong, for each of the app's ready instances that Envoy does not route to."""
        missing: dict[str, str] = {}
        for track in Track:
            routable, check = self.healthy(cluster_name(route.app, track)), health_check(route.health_of(track))
            missing |= {
                endpoint.id: f"{endpoint.id} at {endpoint.address} does not pass Envoy's health check {check}"
                for endpoint in route.ready(track)
                if endpoint.address not in routable
            }
        return missing

    @cached_property
    def _hosts_of(self) -> dict[str, list[Host]]:
        found: defaultdict[str, list[Host]] = defaultdict(list)
        for host in self.hosts:
            found[host.cluster].append(host)
        return found


class EnvoyAdmin:
    """Reads Envoy's admin interface. Every method raises Unavailable if Envoy does not answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def versions(self, app: str | None = None) -> dict[str, str]:
        """Returns, for all of Envoy's files or, given `app`, for those that determine the app's routing, the name of a
        statistic (`version_stat` returns it for a file) → the version of the file that Envoy has accepted.
        """
        names = "|".join(re.escape(version_stat(file)) for file in files_of(app)) if app else ".*version_text"
        text = (await self._get("/stats", type="TextReadouts", filter=f"^({names})$")).text
        pairs = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in pairs}

    async def clusters(self, app: str | None = None) -> Clusters:
        """Returns Envoy's clusters with their endpoints: those of all apps or, given `app`, of one."""
        answer = await self._get("/clusters", format="json", filter=f"^{app}/" if app else "")
        statuses = [each for each in from_json(answer.content).get("cluster_statuses", []) if each["name"] != KEEPER]
        if app:
            statuses = [status for status in statuses if status["name"].startswith(f"{app}/")]
        hosts = tuple(_host(status["name"], host) for status in statuses for host in status.get("host_statuses", []))
        return Clusters(frozenset(status["name"] for status in statuses), hosts)

    async def connections(self) -> int:
        """Returns the number of connections that visitors have to Envoy. Envoy updates the number once a second."""
        answer = await self._get("/stats", format="json", filter=f"^{re.escape(CONNECTIONS)}$")
        return next((stat["value"] for stat in from_json(answer.content)["stats"] if "value" in stat), 0)

    async def reopen_logs(self) -> None:
        """Makes Envoy reopen its access log (after rotation), creating the file if it is missing."""
        await self._call("POST", "/reopen_logs")

    async def bootstrap(self) -> str:
        """Returns the version of the bootstrap (start configuration) with which Envoy was started: a hash that Slipway
        wrote into it; empty if an earlier version of Slipway wrote it.
        """
        return version_of((await self._get("/server_info")).json()["node"])

    async def quit(self) -> None:
        """Ends Envoy. Its supervisor starts it again, with the bootstrap that is then on disk."""
        await self._call("POST", "/quitquitquit")

    async def _get(self, path: str, **params: str) -> httpx.Response:
        return await self._call("GET", path, **params)

    async def _call(self, method: str, path: str, **params: str) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, params=params)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(f"Envoy's admin does not answer ({type(error).__name__})") from error
        return answer


def admin_client(socket: Path) -> httpx.AsyncClient:
    """Returns an HTTP client for the admin socket with a time-out of 2 s."""
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://envoy", timeout=2.0)


def version_stat(file: str) -> str:
    """Returns the name of Envoy's statistic that holds the accepted version of `file` (a path in Envoy's folder)."""
    if file == CDS_FILE:
        return "cluster_manager.cds.version_text"
    if file in ROUTE_FILES:
        listener = LISTENERS[ROUTE_FILES.index(file)]
        return f"http.{listener}.rds.{listener}.version_text"
    app, track = file.removeprefix("eds/").removesuffix(".json").rsplit(".", 1)
    return f"cluster.{cluster_name(app, Track(track))}.version_text"


def files_of(app: str) -> tuple[str, ...]:
    """Returns the files that determine the app's routing, as paths in Envoy's folder."""
    return (*(eds_file(app, track) for track in Track), CDS_FILE, *ROUTE_FILES)


def _host(cluster: str, status: dict[str, Any]) -> Host:
    socket = status["address"]["socket_address"]
    count = {stat["name"]: int(stat.get("value", 0)) for stat in status["stats"]}  # Envoy leaves out a value of 0
    faults = ("failed_active_health_check", "failed_outlier_check", "pending_active_hc", "pending_dynamic_removal")
    health = status["health_status"]
    return Host(
        cluster=cluster,
        address=f"{socket['address']}:{socket['port_value']}",
        healthy=health.get("eds_health_status") == "HEALTHY" and not any(health.get(fault) for fault in faults),
        active=count["rq_active"],
    )
