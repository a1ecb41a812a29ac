"""Makes Envoy's bootstrap: three listeners. Routes and clusters come from files. Pure."""

from pathlib import Path

from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.routes import rds_file
from shared.config import SharedSettings

CDS_FILE = "cds.json"
OWNER_ONLY = 0o600
# Envoy keeps only what is read here: of 400 apps that is 2 400 statistics instead of 160 000, in each reading.
STATISTICS = [
    {"safe_regex": {"regex": r"cluster\..*/(stable|canary|split)\.upstream_rq_(time|retry)"}},
    {"suffix": "version_text"},
]


def bootstrap(settings: SharedSettings, folder: Path, admin_socket: Path) -> Json:
    """Returns the document for `envoy -c`. `folder` is the folder of Envoy's files."""
    ports = {
        "public": settings.public_port,
        "production": settings.production_port,
        "canary": settings.canary_port,
    }
    return {
        "node": {"id": "slipway", "cluster": "slipway"},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": OWNER_ONLY}}},
        "dynamic_resources": {"cds_config": file_source(folder / CDS_FILE)},
        "static_resources": {
            "listeners": [_listener(name, settings.host, port, folder) for name, port in ports.items()]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
                        "downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 20_000,  # a flood then ends before the file descriptors
                    },
                }
            ]
        },
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": STATISTICS}}},
        "stats_flush_interval": "1s",  # histograms are brought up to date at each flush
    }


def _listener(name: str, host: str, port: int, folder: Path) -> Json:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": name, "config_source": file_source(folder / rds_file(name))},
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"accept_http_10": True},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "stream_idle_timeout": "3600s",  # 5 min by default, which would cut quiet event streams
        "request_headers_timeout": "30s",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    http = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [{"filters": [http]}],
    }
