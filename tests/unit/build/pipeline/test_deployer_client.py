"""The pusher reads how long a stop-first release left no instance."""

from typing import Any

import pytest

from services.build.pipeline.deployer_client import downtime_text
from shared.clock import now
from shared.models import ReleaseView


def a_view(**changes: Any) -> ReleaseView:
    given = {"id": "notes-r2", "app": "notes", "environment": "production", "build": "notes-2", "commit": "a" * 40}
    return ReleaseView.model_validate({**given, "state": "live", "created_at": now(), **changes})


@pytest.mark.parametrize(
    ("changes", "volumes", "said"),
    [
        ({}, [], ""),
        ({"strategy": "stop-first"}, ["data"], ""),
        ({"down_s": 1.42, "unchanged": True}, ["data"], ""),
        ({"down_s": 1.42}, ["data"], " (stop-first because of its volume data: nobody was served for 1.4 s)"),
        ({"down_s": 2}, ["a", "b"], " (stop-first because of its volumes a, b: nobody was served for 2.0 s)"),
        (
            {"down_s": 2},
            [],
            " (stop-first because of the volume of the release before it: nobody was served for 2.0 s)",
        ),
        (
            {"down_s": 2, "environment": "canary"},
            ["data"],
            " (stop-first because of its volume data: there was no canary for 2.0 s)",
        ),
    ],
)
def test_a_loss_is_said_with_its_cause_and_length(changes: dict[str, Any], volumes: list[str], said: str) -> None:
    assert downtime_text(a_view(**changes), volumes) == said
