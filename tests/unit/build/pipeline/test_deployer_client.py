"""The pusher reads how long a stop-first release left no instance."""

from typing import Any

import pytest

from services.build.pipeline.deployer_client import downtime_text, progress
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"wait": {"waited_s": 41.6, "limit_s": 60}}, "42 s of 60"),
        ({"wait": {"waited_s": 70, "limit_s": 60}}, "70 s of 60, longer as the CPU is short"),
        (
            {"wait": {"waited_s": 4, "limit_s": 60, "away_s": 20.1, "is_held": True}},
            "a part of the platform is down, for 20 s of 600 so far",
        ),
        ({"wait": {"waited_s": 4, "limit_s": 60}, "switched_at": now()}, ""),
    ],
)
def test_a_pusher_reads_how_much_of_which_time_is_over(changes: dict[str, Any], said: str) -> None:
    assert progress(a_view(state="starting", **changes)) == said
