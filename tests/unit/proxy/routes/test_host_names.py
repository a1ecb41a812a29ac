"""An app may have some host names, and the refusal of another says why."""

import pytest

from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.host_names import checked, without_host
from services.proxy.routes.route_table import RouteTable
from shared.errors import Conflict, Invalid
from tests.support.proxy.routes import route

SHOP = route(app="shop").model_copy(update={"edge": EdgeSettings(hosts=["*.shop.example", "www.shop.example"])})
ROUTES = RouteTable([route(app="notes"), SHOP])


def asked(host: str, domain: str = "localhost") -> str:
    return checked("hosts.0", host, "notes", domain, ROUTES)


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM.", "www.example.com"),
        ("*.Example.com", "*.example.com"),
        ("other.shop.example", "other.shop.example"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("localhost", "localhost"),
        ("notes.localhost", "notes.localhost"),
        ("a.notes.localhost", "a.notes.localhost"),
    ],
)
def test_a_host_name_is_taken_in_its_normal_form(host: str, normal: str) -> None:
    assert asked(host) == normal


@pytest.mark.parametrize(
    "host",
    [
        *("", ".", "*", "*.", "*.*.example.com", "www.*.example.com", "*example.com", "a..example", "-a.example"),
        *("https://example.com", "example.com:80", "example.com/x", "a b", "a_b.example", "müller.example"),
        "a." * 127 + "example",
    ],
)
def test_what_is_no_host_name_is_refused_with_its_field_and_the_remedy(host: str) -> None:
    with pytest.raises(Invalid, match=r"^hosts\.0: .* is not a host name; write it like www\.example\.com"):
        asked(host)


@pytest.mark.parametrize(
    ("host", "domain"), [("*.localhost", "localhost"), ("*.example.com", "apps.example.com"), ("*.com", "example.com")]
)
def test_a_wildcard_that_includes_the_names_of_all_apps_is_refused(host: str, domain: str) -> None:
    with pytest.raises(Invalid, match="the host names of other apps; list single names instead"):
        asked(host, domain)


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("www.shop.example", "shop"),
        ("WWW.shop.example.", "shop"),
        ("*.shop.example", "shop"),
        ("shop.localhost", "shop"),
        ("later.localhost", "later"),
    ],
)
def test_a_host_name_of_another_app_is_refused_also_before_that_app_exists(host: str, owner: str) -> None:
    with pytest.raises(Conflict, match=f"belongs to app {owner}; ") as refusal:
        asked(host)
    assert refusal.value.extra["app"] == owner


def test_a_host_that_is_taken_away_is_gone_wherever_it_was_set() -> None:
    edge = EdgeSettings(hosts=["a.example", "b.example"], canonical_host="a.example")
    given = route().model_copy(update={"edge": edge, "hosts": ["a.example", "c.example"]})
    taken = without_host(given, "a.example")
    assert taken.claims == {"b.example", "c.example"}
