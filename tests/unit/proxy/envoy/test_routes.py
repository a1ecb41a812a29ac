"""Envoy's routes: their names, what may be sent again, the override header, copies for the canary."""

from typing import Any

import pytest

from services.proxy.envoy.clusters import clusters
from services.proxy.envoy.configuration import Configuration
from services.proxy.envoy.routes import ROUTES
from services.proxy.routes.rollout import ended
from services.proxy.routes.route import Endpoint, EndpointState, Route
from shared.models import Track
from shared.proxy_models import RolloutState
from tests.support.proxy.routes import NOW, endpoint, route

PORT = {Track.STABLE: 20000, Track.CANARY: 21000}
PUBLIC, PRODUCTION, CANARY = "public", "production", "canary"


def instances(count: int, release: str = "notes-r1", track: Track = Track.STABLE) -> tuple[Endpoint, ...]:
    return tuple(endpoint(f"{release}-{number}", port=PORT[track] + number) for number in range(count))


def split(stable: int = 1, canary: int = 1, **rollout: Any) -> Route:
    made = route(*instances(stable), canary=instances(canary, "notes-r2", Track.CANARY), rollout="notes-r2")
    assert made.rollout is not None
    return made.model_copy(update={"rollout": made.rollout.model_copy(update=rollout)})


def routes_of(given: Route, listener: str = PUBLIC) -> list[Any]:
    return ROUTES[listener](given)


def kinds(given: Route, listener: str = PUBLIC) -> list[str]:
    """The names of the routes, each once, in their order."""
    return list(dict.fromkeys(each["name"].removeprefix("notes/") for each in routes_of(given, listener)))


def sent_once_more(given: Route, listener: str = PUBLIC) -> set[str]:
    """`kind cluster` of the requests that Envoy sends again after a reset."""
    found = set()
    for each in routes_of(given, listener):
        if "route" not in each:
            continue
        weighted = each["route"].get("weighted_clusters", {}).get("clusters", [])
        for target in weighted or [{"name": each["route"]["cluster"], **each}]:
            headers = {one["header"]["key"]: one["header"]["value"] for one in target.get("request_headers_to_add", [])}
            if headers.get("x-envoy-retry-on") == "reset":
                assert headers["x-envoy-max-retries"] == "1"
                matched = {header["name"]: header for header in each["match"]["headers"]}
                assert matched[":method"]["string_match"]["safe_regex"]["regex"] == "GET|HEAD"
                cluster = target["name"] if weighted else each["route"]["cluster"]
                found.add(f"{each['name'].removeprefix('notes/')} {cluster.removeprefix('notes/')}")
    return found


def test_a_route_is_named_by_its_app_and_kind() -> None:
    assert kinds(split()) == ["always", "never", "known", "new"]
    assert kinds(split(), PRODUCTION) == ["production"]
    assert kinds(split(), CANARY) == ["canary"]
    assert kinds(route(*instances(1))) == ["stable"]
    assert kinds(route()) == kinds(route(), CANARY) == ["page"]


def test_without_three_ready_instances_what_was_sent_is_never_sent_again() -> None:
    for given in (split(1, 1), split(2, 2), route(*instances(2))):
        for listener in (PUBLIC, PRODUCTION, CANARY):
            assert sent_once_more(given, listener) == set()
            policies = [each["route"]["retry_policy"] for each in routes_of(given, listener) if "route" in each]
            assert {each["retry_on"] for each in policies} <= {"connect-failure,refused-stream,reset-before-request"}
            assert {each["num_retries"] for each in policies} <= {20}
            frequency = {each["retry_priority"]["typed_config"]["update_frequency"] for each in policies}
            assert frequency <= {1}  # from the canary to production at once


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (split(3, 1), {"never stable", "known stable", "new stable"}),
        (split(1, 3), {"always split", "known split", "new split"}),
        (route(*instances(3)), {"stable stable"}),
    ],
)
def test_a_get_is_sent_once_more_at_a_track_with_three_ready_instances(given: Route, expected: set[str]) -> None:
    assert sent_once_more(given) == expected
    assert sent_once_more(given, PRODUCTION) == ({"production stable"} if given.most_ready(Track.STABLE) > 2 else set())


def test_a_request_to_three_canaries_that_was_sent_stays_with_the_canary() -> None:
    policies = [each["route"]["retry_policy"] for each in routes_of(split(1, 3))]
    assert {each["retry_priority"]["typed_config"]["update_frequency"] for each in policies} == {2}


def test_instances_of_two_releases_are_not_added_up_so_that_a_deployment_changes_no_route() -> None:
    before, after = instances(2), instances(2, "notes-r3")
    drained = [each.model_copy(update={"state": EndpointState.DRAINING}) for each in before]
    written = Configuration()
    written.put(route(*before))
    for step in (route(*before, *after), route(*drained, *after), route(*after)):
        assert not [name for name in written.put(step) if name.startswith("rds")]


def test_the_header_gets_the_canary_only_with_the_rollouts_key_if_that_has_one() -> None:
    def keys(given: Route) -> list[str]:
        headers = [header for each in routes_of(given) for header in each["match"]["headers"]]
        return [header["string_match"]["exact"] for header in headers if header["name"] == "x-canary"]

    assert keys(split()) == ["always", "never"]
    assert keys(split(override_key="open sesame")) == ["open sesame", "never"]


def test_a_canary_without_an_open_rollout_is_reached_by_no_header() -> None:
    waiting = route(*instances(1), canary=instances(1, "notes-r2", Track.CANARY))
    assert kinds(waiting) == ["stable"]


def test_an_ended_rollout_has_no_key() -> None:
    given = split(override_key="open sesame").rollout
    assert given is not None and "sesame" not in repr(given)
    for state in (RolloutState.ABORTED, RolloutState.PROMOTED):
        assert ended(given, state, "", {}, NOW).override_key == ""


def test_production_is_copied_to_the_canary_by_its_own_cluster_while_the_canary_is_ready() -> None:
    def mirrored(given: Route) -> dict[str, int]:
        policies = {
            each["name"]: each["route"].get("request_mirror_policies", []) for each in reversed(routes_of(given))
        }
        return {
            name.removeprefix("notes/"): found[0]["runtime_fraction"]["default_value"]["numerator"]
            for name, found in policies.items()
            if found
        }

    given = split(mirror=10)
    assert mirrored(given) == {"known": 10, "new": 10}
    assert mirrored(given.model_copy(update={"weight": 0})) == {"stable": 10}
    assert mirrored(given.model_copy(update={"enabled": False})) == mirrored(split()) == {}
    assert mirrored(given.model_copy(update={"endpoints": {**given.endpoints, Track.CANARY: {}}})) == {}
    assert [each["name"] for each in clusters(given)][3:] == ["notes/mirror"]
    assert [each["name"] for each in clusters(split())][3:] == []


def test_no_visitor_can_name_the_cluster_of_a_copy() -> None:
    for each in routes_of(split(mirror=10)):
        if "request_mirror_policies" in each["route"]:
            canary, stable = each["route"]["weighted_clusters"]["clusters"]
            assert canary["request_headers_to_remove"] == ["x-slipway-mirror"]
            [added] = stable["request_headers_to_add"]
            assert added["header"] == {"key": "x-slipway-mirror", "value": "notes/mirror"}
            assert added["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"


def test_a_former_visitors_cookie_is_removed_once_there_is_no_rollout() -> None:
    given = split()
    assert given.rollout is not None
    over = given.model_copy(update={"rollout": ended(given.rollout, RolloutState.ABORTED, "", {}, NOW)})
    [former, rest] = routes_of(over)
    assert former["match"]["cookies"] == [{"name": "slipway-notes", "string_match": {"prefix": "notes-r"}}]
    assert "slipway-notes=; Max-Age=0" in str(former["typed_per_filter_config"])
    assert "typed_per_filter_config" not in rest
    paused = routes_of(given.model_copy(update={"enabled": False}))
    assert [each["name"] for each in paused if "typed_per_filter_config" in each] == []
