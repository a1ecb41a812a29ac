"""Creates Envoy's listeners, each with its HTTP connection manager, for the bootstrap. Pure. The listeners for HTTPS
and for the PROXY protocol have the routes of the public one.
"""

from pathlib import Path

from services.proxy.envoy.access_log import access_log
from services.proxy.envoy.clusters import Json, file_source
from services.proxy.envoy.routes import rds_file
from services.proxy.envoy.visitor_cookie import http_filter
from services.proxy.visitors.client_address import client_filter, of_clients, of_proxies
from services.proxy.visitors.https import with_tls
from services.proxy.visitors.refusals import protocol_options, refusal_answers, refusal_filter
from services.proxy.visitors.visitor_limits import either, filter_chains, only_by_proxies
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
        _listener(settings, name, port, _chains(settings, name, name, folder, visitors)) for name, port in plain.items()
    ]
    if settings.https_port:
        chains = with_tls(_chains(settings, "https", "public", folder, visitors))
        found.append(_listener(settings, "https", settings.https_port, chains))
    if settings.proxy_protocol_port:
        name = "proxy-protocol"
        chains = _chains(settings, name, "public", folder, visitors)
        if settings.https_port:
            chains = either(chains, with_tls(_chains(settings, name, "public", folder, visitors, prefix="tls-")))
        chains = only_by_proxies(chains, settings.trusted_networks)
        found.append(_listener(settings, name, settings.proxy_protocol_port, chains))
    return found


def _listener(settings: SharedSettings, name: str, port: int, chains: Json) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": settings.host, "port_value": port}},
        **chains,
    }


def _chains(settings: SharedSettings, name: str, routes: str, folder: Path, visitors: int, *, prefix: str = "") -> Json:
    """Returns the filter chains of the listener `name`, which has the routes of the listener `routes`."""
    manager = _connection_manager(settings, name, routes, folder)
    proxies = settings.trusted_networks
    for_proxies = {**manager, **of_proxies(proxies), "http_filters": [client_filter(), *manager["http_filters"]]}
    return filter_chains(name, visitors, {**manager, **of_clients()}, proxies, for_proxies, prefix)


def _connection_manager(settings: SharedSettings, name: str, routes: str, folder: Path) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": routes, "config_source": file_source(folder / rds_file(routes))},
        "strip_trailing_host_dot": True,  # browsers send the dot that people write; it means the same host
        "server_header_transformation": "PASS_THROUGH",
        **protocol_options(settings.domain),
        "stream_idle_timeout": "300s",  # without a byte in either direction; routes of quiet streams have more
        "request_headers_timeout": "30s",
        "request_timeout": "3600s",  # until the request is whole, or its answer begins: one of drops would never end
        **access_log(settings, folder),
        **refusal_answers(),
        "http_filters": [
            refusal_filter(),
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
