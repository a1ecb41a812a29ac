"""Creates Envoy's bootstrap, its start configuration with the listeners. Routes and clusters come from files,
endpoints from the keeper. Pure.
"""

import hashlib
import json
from pathlib import Path

from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.listeners import listeners
from services.proxy.envoy.visitor_limits import overload_manager
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
    document = {
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": OWNER_ONLY}}},
        "dynamic_resources": {"cds_config": file_source(folder / CDS_FILE), "ads_config": _ads()},
        "static_resources": {
            "listeners": listeners(settings, folder, visitors),
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
