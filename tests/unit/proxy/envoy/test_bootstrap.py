"""Envoy's bootstrap bounds what visitors may hold."""

from pathlib import Path
from typing import Any

from services.proxy.envoy.bootstrap import bootstrap
from shared.config import SharedSettings


def listeners(folder: Path, visitors: int = 5_000, **settings: Any) -> list[Any]:
    given = SharedSettings.model_validate({"home": folder, **settings})
    document: Any = bootstrap(given, folder, folder / "admin.sock", visitors)
    listeners: list[Any] = document["static_resources"]["listeners"]
    return listeners


def filters(listener: Any) -> list[dict[str, Any]]:
    """Returns for each filter chain the configurations of its filters, by name."""
    chains = listener["filter_chains"]
    return [{each["name"].rpartition(".")[2]: each["typed_config"] for each in chain["filters"]} for chain in chains]


def test_a_connection_without_requests_and_a_request_that_stalls_are_ended_after_five_minutes(tmp_path: Path) -> None:
    for listener in listeners(tmp_path):
        for each in filters(listener):
            manager = each["http_connection_manager"]
            assert manager["common_http_protocol_options"]["idle_timeout"] == "300s"
            assert (manager["stream_idle_timeout"], manager["request_headers_timeout"]) == ("300s", "30s")
            assert manager["request_timeout"] == "3600s"


def test_trusted_proxies_have_a_filter_chain_without_a_limit_and_the_port_for_the_proxy_protocol_is_theirs(
    tmp_path: Path,
) -> None:
    assert [each["name"] for each in listeners(tmp_path)] == ["public", "production", "canary"]
    found = listeners(tmp_path, trusted_proxies="10.0.0.7 2001:db8::/32", proxy_protocol_port=3457)
    assert [each["name"] for each in found] == ["public", "production", "canary", "proxy-protocol"]
    assert found[-1]["address"]["socket_address"]["port_value"] == 3457
    trusted = [{"address_prefix": "10.0.0.7", "prefix_len": 32}, {"address_prefix": "2001:db8::", "prefix_len": 32}]
    for listener in found:
        assert [*filters(listener)[-1]] == ["http_connection_manager"]
        [first, *others] = listener["filter_chain_matcher"]["matcher_list"]["matchers"]
        chosen = first["predicate"]["single_predicate"]
        assert chosen["custom_match"]["typed_config"]["cidr_ranges"] == trusted
        assert len(others) == (0 if listener is found[-1] else 16)  # of anybody else


def test_the_clients_of_a_group_may_have_a_fourth_of_all_connections(tmp_path: Path) -> None:
    for visitors, limit in ((5_000, 1_250), (2, 1)):
        for listener in listeners(tmp_path, visitors):
            assert [each["connection_limit"]["max_connections"] for each in filters(listener)] == [limit] * 16


def test_every_address_belongs_to_a_group(tmp_path: Path) -> None:
    for listener in listeners(tmp_path):
        matchers = listener["filter_chain_matcher"]["matcher_list"]["matchers"]
        chosen = {
            each["predicate"]["single_predicate"]["value_match"]["suffix"]: each["on_match"]["action"]["name"]
            for each in matchers
        }
        assert chosen == {digit: digit for digit in "0123456789abcdef"}
        assert [chain["name"] for chain in listener["filter_chains"]] == list(chosen)
