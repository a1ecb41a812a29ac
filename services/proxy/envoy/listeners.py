"""Creates Envoy's listeners, each with its HTTP connection manager, for the bootstrap. Pure."""

from pathlib import Path

from services.proxy.envoy.access_log import access_log
from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.routes import rds_file
from services.proxy.envoy.visitor_cookie import http_filter
from services.proxy.envoy.visitor_limits import filter_chains
from shared.config import SharedSettings


def listeners(settings: SharedSettings, folder: Path, visitors: int) -> list[Json]:
    """Returns the listeners. `folder` is the folder of Envoy's files; `visitors` is the number of connections that
    visitors may have at the same time.
    """
    ports = {
        "public": settings.public_port,
        "production": settings.production_port,
        "canary": settings.canary_port,
    }
    return [_listener(settings, name, port, folder, visitors) for name, port in ports.items()]


def _listener(settings: SharedSettings, name: str, port: int, folder: Path, visitors: int) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": settings.host, "port_value": port}},
        **filter_chains(name, visitors, _connection_manager(name, folder)),
    }


def _connection_manager(name: str, folder: Path) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": name, "config_source": file_source(folder / rds_file(name))},
        "use_remote_address": True,
        "strip_trailing_host_dot": True,  # browsers send the dot that people write; it means the same host
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
