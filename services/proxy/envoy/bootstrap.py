"""Creates Envoy's bootstrap, its start configuration with three listeners. Routes and clusters come from files,
endpoints from the keeper. Pure.
"""

import hashlib
import json
from pathlib import Path

from services.proxy.envoy.access_log import access_log
from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.routes import rds_file
from services.proxy.envoy.visitor_cookie import http_filter
from services.proxy.envoy.visitor_limits import filter_chains, overload_manager
from shared.config import SharedSettings

CDS_FILE = "cds.json"
KEEPER = "keeper"
KEEPER_SOCKET = "keeper.sock"
VERSION = "slipway.bootstrap"
OWNER_ONLY = 0o600
# Envoy keeps only the statistics that are read here: 800 instead of 160 000 for 400 apps, in each reading.
STATISTICS = [{"suffix": "version_text"}, {"exact": "server.total_connections"}]
# By default, each of Envoy's threads wakes ten times a second to show that it lives, and Envoy only counts that.
WATCHDOG = {"miss_timeout": "4s", "megamiss_timeout": "10s"}


def bootstrap(settings: SharedSettings, folder: Path, admin_socket: Path, visitors: int) -> Json:
    """Returns the document for `envoy -c`. `folder` is the folder of Envoy's files; `visitors` is the number of
    connections that visitors may have at the same time. The metadata in its section `node` contain a hash of the
    document, its version.
    """
    ports = {
        "public": settings.public_port,
        "production": settings.production_port,
        "canary": settings.canary_port,
    }
    document = {
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": OWNER_ONLY}}},
        "dynamic_resources": {"cds_config": file_source(folder / CDS_FILE), "ads_config": _ads()},
        "static_resources": {
            "listeners": [_listener(name, settings.host, port, folder, visitors) for name, port in ports.items()],
            "clusters": [_keeper(folder / KEEPER_SOCKET)],
        },
        "overload_manager": overload_manager(folder, visitors),
        "watchdogs": {"main_thread_watchdog": WATCHDOG, "worker_watchdog": WATCHDOG},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": STATISTICS}}},
        "stats_flush_interval": "1s",  # Envoy updates the number of connections at each flush
    }
    version = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]
    return {"node": {"id": "slipway", "cluster": "slipway", "metadata": {VERSION: version}}, **document}


def version_of(node: Json) -> str:
    """Returns the version of the bootstrap whose section `node` is given; empty if an earlier version of Slipway wrote
    it.
    """
    return str(node.get("metadata", {}).get(VERSION, ""))


def _ads() -> Json:
    retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": KEEPER, "retry_policy": retry}}],
    }


def _keeper(socket: Path) -> Json:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": KEEPER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": KEEPER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _listener(name: str, host: str, port: int, folder: Path, visitors: int) -> Json:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": name, "config_source": file_source(folder / rds_file(name))},
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"accept_http_10": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "common_http_protocol_options": {"idle_timeout": "300s"},  # of a connection without requests
        "stream_idle_timeout": "3600s",  # the default, 5 min, would end quiet event streams
        "request_headers_timeout": "30s",
        "request_timeout": "3600s",  # until the request is whole, or its answer begins: one of drops would never end
        **access_log(folder),
        "http_filters": [
            http_filter(),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        **filter_chains(name, visitors, manager),
    }
