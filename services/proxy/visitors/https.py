"""Configures HTTPS in Envoy: the certificates of its listener, the redirect to it, HSTS, and the answers to the
challenges of a certificate authority. Pure.

A certificate is a secret with the name of its host. Envoy asks the keeper for it when the first visitor names the host
(SNI), and the keeper sends it again when it has changed. So a new certificate changes no listener, and ends no
connection.
"""

import re
from collections.abc import Sequence
from typing import Any

from services.proxy.routes.route import Route

Json = dict[str, Any]

CHALLENGES = "/.well-known/acme-challenge/"
HTTPS = 443
HANDSHAKE_S = 15
NO_HOST = "-"
"""The name for which the keeper is asked if a visitor names no host; there is no certificate of this name."""

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls"


def with_tls(chains: Json) -> Json:
    """Returns a listener's part with its filter chains, changed so that they speak TLS. A handshake that takes longer
    than 15 s is ended.
    """
    selector = {
        "@type": f"{_TLS}.cert_selectors.on_demand_secret.v3.Config",
        "config_source": {"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "0s"},
        "certificate_mapper": {
            "name": "envoy.tls.certificate_mappers.sni",
            "typed_config": {"@type": f"{_TLS}.cert_mappers.sni.v3.SNI", "default_value": NO_HOST},
        },
    }
    context = {
        "@type": f"{_TLS}.v3.DownstreamTlsContext",
        # Envoy 1.40 resumes no session whose certificate came on demand.
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "custom_tls_certificate_selector": {
                "name": "envoy.tls.certificate_selectors.on_demand_secret",
                "typed_config": selector,
            },
        },
    }
    tls = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        "transport_socket_connect_timeout": f"{HANDSHAKE_S}s",
    }
    return {**chains, "filter_chains": [{**chain, **tls} for chain in chains["filter_chains"]]}


def challenges(route: Route) -> list[Json]:
    """Returns the routes by which Envoy answers a certificate authority for the app's hosts. They come before all
    others, so that no redirect, list of addresses or page can be in their way.
    """
    return [
        {
            "name": f"{route.app}/page",
            "match": {"path": f"{CHALLENGES}{token}"},
            "direct_response": {"status": 200, "body": {"inline_string": answer}},
        }
        for token, answer in sorted(route.challenges.items())
    ]


def redirects(route: Route, https_port: int) -> list[Json]:
    """Returns the routes that redirect the app's requests by HTTP to HTTPS, for those hosts that have a certificate;
    none if the app has not switched that on, or the platform has no port for HTTPS. What a trusted proxy in front of
    Envoy received by HTTPS is not redirected.
    """
    hosts = route.secured() if https_port and route.edge.tls.redirect else []
    if not hosts:
        return []
    if https_port == HTTPS:  # a visitor of another port must be sent to this one, but no address needs to name it
        return [_redirect(route.app, hosts, "", None), _redirect(route.app, hosts, ":[0-9]+", https_port)]
    return [_redirect(route.app, hosts, "(:[0-9]+)?", https_port)]


def hsts(route: Route, https_port: int) -> list[Json]:
    """Returns the header by which browsers use only HTTPS from then on, if the app has it; else nothing. It has no
    effect in an answer by HTTP.
    """
    tls = route.edge.tls
    if not (https_port and tls.redirect and tls.hsts and route.secured()):
        return []
    header = {"key": "strict-transport-security", "value": f"max-age={tls.hsts}"}
    return [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


def _redirect(app: str, hosts: Sequence[str], port: str, to: int | None) -> Json:
    """Returns the route for requests by HTTP to one of the hosts, with a port that matches the expression `port`."""
    names = "|".join(re.escape(host).replace(r"\*", "[^.]+") for host in hosts)
    by_http = {"name": "x-forwarded-proto", "string_match": {"exact": "http"}}
    to_host = {"name": ":authority", "string_match": {"safe_regex": {"regex": rf"(?i)({names})\.?{port}"}}}
    redirect: Json = {"https_redirect": True, "response_code": "PERMANENT_REDIRECT"}
    if to is not None:
        redirect["port_redirect"] = to
    return {
        "name": f"{app}/page",
        "match": {"prefix": "/", "headers": [by_http, to_host]},
        "redirect": redirect,
    }
