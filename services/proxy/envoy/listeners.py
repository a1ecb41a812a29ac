"""Creates Envoy's listeners, each with its HTTP connection manager, for the bootstrap. Pure. The listener for HTTPS has
the routes of the public one.
"""

from pathlib import Path

from services.proxy.envoy.access_log import access_log
from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.routes import rds_file
from services.proxy.envoy.visitor_cookie import http_filter
from services.proxy.envoy.visitor_limits import filter_chains
from services.proxy.visitors.https import with_tls
from shared.config import SharedSettings


def listeners(settings: SharedSettings, folder: Path, visitors: int) -> list[Json]:
    """Returns the listeners. `folder` is the folder of Envoy's files; `visitors` is the number of connections that
    visitors may have at the same time.
    """
    # Envoy names the version of the public routes after the first listener that has them.
    plain = {
        "public": settings.public_port,
        "production": settings.production_port,
        "canary": settings.canary_port,
    }
    found = [
        _listener(settings, name, port, filter_chains(name, visitors, _connection_manager(name, name, folder)))
        for name, port in plain.items()
    ]
    if settings.https_port:
        chains = filter_chains("https", visitors, _connection_manager("https", "public", folder))
        found.append(_listener(settings, "https", settings.https_port, with_tls(chains)))
    return found


def _listener(settings: SharedSettings, name: str, port: int, chains: Json) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": settings.host, "port_value": port}},
        **chains,
    }


def _connection_manager(name: str, routes: str, folder: Path) -> Json:
    """Returns the HTTP connection manager of the listener `name`, which has the routes of the listener `routes`."""
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": routes, "config_source": file_source(folder / rds_file(routes))},
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
