"""Apps with further host names and mapped paths get these virtual hosts in Envoy."""

import json
from typing import Any

from services.proxy.envoy.configuration import Configuration
from services.proxy.routes.edge import EdgeSettings, MappedPath
from services.proxy.routes.route import Route
from tests.support.proxy.routes import endpoint, route

API = route(endpoint("api-r1-1", port=20001), app="api")
DOCS = route(endpoint("docs-r1-1", port=20002), app="docs")


def notes(**edge: Any) -> Route:
    return route(endpoint("notes-r1-1")).model_copy(update={"edge": EdgeSettings(**edge)})


def hosts_of(made: Configuration, listener: str = "public") -> dict[str, Any]:
    """Name of a virtual host → the virtual host."""
    document = json.loads(made.document(f"rds-{listener}.json")[1])
    return {host["name"]: host for host in document["resources"][0]["virtual_hosts"]}


def targets(made: Configuration, listener: str = "public") -> list[tuple[str, str]]:
    """The mapped path and the name of each route of `notes`, in their order, of those that are for a prefix. A route
    for GET and the same one for other requests count once.
    """
    routes = hosts_of(made, listener)["notes"]["routes"]
    found = [
        (match.get("path_separated_prefix", match.get("prefix")), each["name"])
        for each in routes
        if "safe_regex" not in (match := each["match"])
    ]
    return list(dict.fromkeys(found))


def configuration(*routes: Route) -> Configuration:
    made = Configuration()
    for each in routes:
        made.put(each)
    return made


def test_names_but_no_wildcards_are_redirected_to_the_canonical_host_on_the_public_port_only() -> None:
    made = configuration(notes(hosts=["a.example", "*.b.example"], canonical_host="www.example", catch_all=True))
    domains = {name: host["domains"] for name, host in hosts_of(made).items()}
    assert domains == {
        "notes": ["*", "*.b.example", "www.example"],
        "notes/redirected": ["a.example", "notes.localhost"],
    }
    assert list(hosts_of(made, "production")) == ["notes"]


def test_the_longest_prefix_is_first_and_the_hosts_own_app_last() -> None:
    paths = [
        MappedPath(prefix="/api", app="api"),
        MappedPath(prefix="/api/docs", app="docs"),
        MappedPath(prefix="/x", app="docs"),
    ]
    assert targets(configuration(notes(paths=paths), API, DOCS)) == [
        ("/api/docs", "docs/stable"),
        ("/api", "api/stable"),
        ("/x", "docs/stable"),
        ("/", "notes/stable"),
    ]


def test_a_change_of_the_other_app_changes_the_routes_that_lead_to_it_and_no_others() -> None:
    made = configuration(notes(paths=[MappedPath(prefix="/api", app="api")]), DOCS)
    before = hosts_of(made)["docs"]
    assert targets(made)[0] == ("/api", "api/page")
    assert hosts_of(made)["notes"]["routes"][2]["direct_response"]["status"] == 503

    assert set(made.put(API.model_copy(update={"clusters": False}))) >= {"cds.json"}
    assert targets(made)[0] == ("/api", "api/page"), "Envoy does not know its clusters yet"
    assert {"rds-canary.json", "rds-production.json", "rds-public.json"} <= made.put(API)
    assert targets(made)[0] == ("/api", "api/stable")
    canary = (endpoint("api-r2-1", port=20009),)
    made.put(route(endpoint("api-r1-1", port=20001), canary=canary, rollout="api-r2", app="api"))
    assert ("/api", "api/known") in targets(made) and ("/api", "api/new") in targets(made)

    made.remove("api")
    assert targets(made)[0] == ("/api", "api/page")
    assert hosts_of(made)["docs"] == before


def test_no_path_leads_anywhere_once_it_is_mapped_no_more() -> None:
    made = configuration(notes(paths=[MappedPath(prefix="/api", app="api")]), API)
    made.put(notes())
    assert targets(made) == [("/", "notes/stable")]


def test_on_the_canarys_port_a_mapped_app_without_a_canary_answers_by_its_production() -> None:
    canary = (endpoint("docs-r2-1", port=20009),)
    paths = [MappedPath(prefix="/api", app="api"), MappedPath(prefix="/x", app="docs")]
    docs = route(endpoint("docs-r1-1", port=20002), canary=canary, app="docs")
    found = targets(configuration(notes(paths=paths), API, docs), "canary")
    assert found == [("/api", "api/production"), ("/x", "docs/canary"), ("/", "notes/page")]


def test_a_host_without_mapped_paths_takes_any_path() -> None:
    regexes = [each["match"] for each in hosts_of(configuration(notes(), API))["notes"]["routes"]]
    assert [match.get("safe_regex") for match in regexes] == [None, None]
