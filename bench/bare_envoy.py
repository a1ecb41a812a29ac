"""Runs an Envoy with the smallest configuration that forwards requests, as a baseline for the proxy's own."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stack.clients.probe_client import probe
from stack.local.local_stack import free_ports

UP_WITHIN_S = 10
STATIC = MappingProxyType({"type": "STATIC"})


@contextlib.contextmanager
def bare_envoy(folder: Path, upstream: str) -> Iterator[str]:
    """Runs Envoy in front of `upstream` (`host:port`), yields its URL once it answers, then ends it. Raises
    RuntimeError if it does not answer within 10 s.
    """
    [port] = free_ports(1)
    written = folder / "envoy.json"
    written.write_text(json.dumps(configuration(f"127.0.0.1:{port}", upstream)))
    envoy = str(Path(sys.executable).parent / "envoy")
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen([envoy, "-c", str(written), "--disable-hot-restart"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + UP_WITHIN_S
        while probe(url, "/").status != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"bare Envoy does not answer:\n{(folder / 'envoy.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def configuration(
    listen: str, upstream: str, cluster: Mapping[str, Any] = STATIC, action: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns the configuration for addresses `host:port`; `cluster` and `action` extend the cluster and the route's
    action.
    """
    types = "type.googleapis.com/envoy.extensions.filters"
    router = {"name": "router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
    everything = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", **action}}],
    }
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [everything]},
        "http_filters": [router],
    }
    listener = {
        "address": _address(listen),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": _address(upstream)}}
    assignment = {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]}
    app = {"name": "app", "load_assignment": assignment, **cluster}
    return {"static_resources": {"listeners": [listener], "clusters": [app]}}


def _address(host_and_port: str) -> dict[str, Any]:
    host, _, port = host_and_port.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
