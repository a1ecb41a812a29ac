"""The indexes of all routes agree with the routes, whatever was put."""

import random

from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.route import EndpointState, Route
from services.proxy.routes.route_table import RouteTable
from shared.models import Track
from tests.support.proxy.routes import endpoint, route

APPS = ("blog", "notes", "shop")
PORTS = range(20000, 20004)
DOMAINS = ("localhost", "example.com")


def anything(app: str, dice: random.Random) -> Route:
    """A route of the app, with any endpoints."""
    endpoints = {
        track: {
            each.id: each.model_copy(update={"recorded": dice.random() < 0.6})
            for each in (
                endpoint(f"{app}-{track}-{number}", dice.choice(list(EndpointState)), dice.choice(PORTS))
                for number in range(dice.randint(0, 3))
            )
        }
        for track in Track
    }
    hosts = [f"{app}.localhost", *(dice.sample([f"{name}.{app}.example.com" for name in "abc"], dice.randint(0, 2)))]
    update = {"endpoints": endpoints, "hosts": hosts, "clusters": dice.random() < 0.8}
    return route(app=app, rollout=dice.choice([None, f"{app}-r2"])).model_copy(update=update)


def test_every_question_is_answered_as_by_a_look_at_each_route() -> None:
    dice = random.Random(7)
    table = RouteTable([])
    routes: dict[str, Route] = {}
    for _ in range(500):
        app = dice.choice(APPS)
        routes[app] = anything(app, dice)
        table.put(routes[app])

        every = [(each, item) for each in routes.values() for track in Track for item in each.endpoints[track].values()]
        claimed = {item.address for _, item in every if item.recorded and item.state is EndpointState.READY}
        replaced = {each.app for each, item in every if not item.recorded and item.address in claimed}
        owners = {host: each.app for each in routes.values() for host in each.hosts}
        assert dict(table) == routes
        assert [each.app for each in table.busy()] == sorted(each.app for each in routes.values() if each.is_busy)
        assert [each.app for each in table.replaced()] == sorted(replaced)
        addresses = [f"127.0.0.1:{port}" for port in PORTS]
        assert [table.claimed(address) for address in addresses] == [address in claimed for address in addresses]
        names = [f"{prefix}{app}.{domain}" for app in APPS for prefix in ("", "a.", "b.", "c.") for domain in DOMAINS]
        assert {name: table.owner_of(name) for name in names} == {name: owners.get(name) for name in names}


def test_the_app_of_a_host_is_found_also_if_the_host_was_set_on_the_app() -> None:
    edge = EdgeSettings(hosts=["*.example.com"], canonical_host="www.example.org", catch_all=True)
    claims = ["notes.localhost", "*.example.com", "www.example.org", "*"]
    table = RouteTable([route(app="shop"), route(app="notes").model_copy(update={"edge": edge})])
    assert [table.owner_of(host) for host in claims] == ["notes"] * 4

    table.put(route(app="notes"))
    assert [table.owner_of(host) for host in claims] == ["notes", None, None, None]
