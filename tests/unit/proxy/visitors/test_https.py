"""Envoy's redirect to HTTPS and HSTS: for hosts that have a certificate, once the app has switched them on."""

import re
from typing import Any

import pytest

from services.proxy.envoy.virtual_hosts import virtual_hosts
from services.proxy.routes.edge import EdgeSettings, TlsSettings
from services.proxy.routes.route import Route
from tests.support.proxy.certificates import certificate
from tests.support.proxy.routes import endpoint, route

HOSTS = ["notes.example.com", "notes.localhost"]


def secured(tls: TlsSettings | None = None, *hosts: str) -> Route:
    edge = EdgeSettings(tls=tls or TlsSettings(redirect=True))
    certificates = {host: certificate(host) for host in hosts or ("notes.example.com",)}
    return route(endpoint("notes-r1-1")).model_copy(update={"hosts": HOSTS, "edge": edge, "certificates": certificates})


def location(given: Route, authority: str, https_port: int, proto: str = "http") -> str | None:
    """Returns the URL to which Envoy redirects a request to `/a`; None if Envoy sends the request to the app."""
    found: dict[str, Any] = virtual_hosts("public", given, {}, https_port)[0]
    for each in found["routes"]:
        if "redirect" not in each:
            return None
        headers = {header["name"]: header["string_match"] for header in each["match"]["headers"]}
        by, host = headers["x-forwarded-proto"]["exact"], headers[":authority"]["safe_regex"]["regex"]
        if by == proto and re.fullmatch(host, authority):
            redirect = each["redirect"]
            assert (redirect["https_redirect"], redirect["response_code"]) == (True, "PERMANENT_REDIRECT")
            name = authority.partition(":")[0]
            return (
                f"https://{name}:{redirect['port_redirect']}/a" if "port_redirect" in redirect else f"https://{name}/a"
            )
    return None


@pytest.mark.parametrize(
    ("authority", "https_port", "expected"),
    [
        ("notes.example.com", 443, "https://notes.example.com/a"),
        ("Notes.Example.com", 443, "https://Notes.Example.com/a"),
        ("notes.example.com.", 443, "https://notes.example.com./a"),
        ("notes.example.com:3456", 443, "https://notes.example.com:443/a"),
        ("notes.example.com", 8443, "https://notes.example.com:8443/a"),
        ("notes.example.com:3456", 8443, "https://notes.example.com:8443/a"),
        ("notes.localhost", 443, None),  # which has no certificate
        ("notesxexample.com", 443, None),
        ("notes.example.com", 0, None),
    ],
)
def test_a_request_by_http_to_a_host_with_a_certificate_is_redirected(
    authority: str, https_port: int, expected: str | None
) -> None:
    assert location(secured(), authority, https_port) == expected


def test_a_request_by_https_is_not_redirected() -> None:
    assert location(secured(), "notes.example.com", 443, "https") is None


def test_nothing_is_redirected_unless_the_app_has_that_switched_on() -> None:
    assert location(secured(TlsSettings()), "notes.example.com", 443) is None


@pytest.mark.parametrize("listener", ["production", "canary"])
def test_the_private_ports_redirect_nothing(listener: str) -> None:
    assert virtual_hosts(listener, secured(), {}, 443) == virtual_hosts(listener, secured(), {}, 0)


def test_hsts_is_told_for_as_long_as_the_app_says() -> None:
    def told(given: Route, https_port: int = 443) -> list[str]:
        headers = virtual_hosts("public", given, {}, https_port)[0].get("response_headers_to_add", [])
        return [each["header"]["value"] for each in headers]

    assert told(secured(TlsSettings(redirect=True, hsts=300))) == ["max-age=300"]
    assert told(secured()) == []
    assert told(secured(TlsSettings(redirect=True, hsts=300)), 0) == []
    assert told(secured(TlsSettings(redirect=True, hsts=300), "gone.example.com")) == []


def test_hsts_without_a_redirect_is_refused() -> None:
    with pytest.raises(ValueError, match="needs `redirect: true`"):
        TlsSettings(hsts=300)


def test_the_answer_for_an_authority_comes_before_every_other_route() -> None:
    given = secured().model_copy(update={"challenges": {"token": "answer"}})

    first = virtual_hosts("public", given, {}, 443)[0]["routes"][0]

    assert first["match"] == {"path": "/.well-known/acme-challenge/token"}
    assert first["direct_response"] == {"status": 200, "body": {"inline_string": "answer"}}


def test_the_hosts_that_are_redirected_to_the_canonical_one_answer_an_authority_and_go_to_https_first() -> None:
    edge = EdgeSettings(canonical_host="notes.example.com", tls=TlsSettings(redirect=True))
    given = secured(None, *HOSTS).model_copy(update={"edge": edge, "challenges": {"token": "answer"}})

    _, redirected = virtual_hosts("public", given, {}, 443)

    assert redirected["domains"] == ["notes.localhost"]
    kinds = [next(iter({"direct_response", "redirect"} & each.keys())) for each in redirected["routes"]]
    assert kinds == ["direct_response", "redirect", "redirect", "redirect"]
    assert "https_redirect" not in redirected["routes"][-1]["redirect"]
