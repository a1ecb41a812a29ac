"""Envoy's bootstrap bounds what visitors may hold."""

from pathlib import Path
from typing import Any

from services.proxy.envoy.bootstrap import bootstrap
from shared.config import SharedSettings


def listeners(folder: Path, visitors: int = 5_000) -> list[Any]:
    document: Any = bootstrap(SharedSettings(home=folder), folder, folder / "admin.sock", visitors)
    listeners: list[Any] = document["static_resources"]["listeners"]
    return listeners


def filters(listener: Any) -> list[dict[str, Any]]:
    """Returns for each filter chain the configurations of its filters, by name."""
    chains = listener["filter_chains"]
    return [{each["name"].rpartition(".")[2]: each["typed_config"] for each in chain["filters"]} for chain in chains]


def test_a_connection_without_requests_is_closed_after_five_minutes_and_a_quiet_stream_is_not(tmp_path: Path) -> None:
    for listener in listeners(tmp_path):
        for each in filters(listener):
            manager = each["http_connection_manager"]
            assert manager["common_http_protocol_options"] == {"idle_timeout": "300s"}
            assert (manager["stream_idle_timeout"], manager["request_headers_timeout"]) == ("3600s", "30s")
            assert manager["request_timeout"] == "3600s"


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
