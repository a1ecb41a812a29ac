"""Envoy's bootstrap bounds what a visitor's connection may hold."""

from pathlib import Path
from typing import Any

from services.proxy.envoy.bootstrap import bootstrap
from shared.config import SharedSettings


def test_a_connection_without_requests_is_closed_after_five_minutes_and_a_quiet_stream_is_not(tmp_path: Path) -> None:
    document: Any = bootstrap(SharedSettings(home=tmp_path), tmp_path, tmp_path / "admin.sock", 5_000)

    for listener in document["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["common_http_protocol_options"] == {"idle_timeout": "300s"}
        assert (manager["stream_idle_timeout"], manager["request_headers_timeout"]) == ("3600s", "30s")
