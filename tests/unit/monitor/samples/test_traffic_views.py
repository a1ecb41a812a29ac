"""The proxy's answer about all apps is parsed, and unchanged figures are the same objects."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.monitor.samples.traffic_views import TrafficViews
from shared.models import Track


def answer(**requests: int | str) -> dict[str, Any]:
    """The answer of a proxy with these apps, and the requests that each had."""

    def track(count: int | str) -> dict[str, Any]:
        return {"release": "r1", "requests": count, "errors": 0, "latency": {"le_ms": [None], "counts": [count]}}

    rest = {"epoch": "e1", "share_set": 0, "share_seen": None}
    items = [{"app": app, **rest, "tracks": {"stable": track(count)}} for app, count in requests.items()]
    return {"items": items, "next": None}


def test_figures_that_have_not_changed_are_the_same_object() -> None:
    views = TrafficViews()
    first = views.of(answer(idle=7, busy=7), {"idle", "busy"})
    second = views.of(answer(idle=7, busy=8), {"idle", "busy"})
    assert second["idle"] is first["idle"]
    assert second["busy"] is not None and second["busy"].tracks[Track.STABLE].requests == 8


def test_an_app_that_went_away_and_one_that_was_not_asked_for_have_none() -> None:
    views = TrafficViews()
    views.of(answer(notes=1, other=1), {"notes"})
    assert views.of(answer(other=1), {"notes"}) == {}


def test_figures_that_cannot_be_read_spoil_no_others() -> None:
    views = TrafficViews()
    found = views.of(answer(notes=1, broken="many"), {"notes", "broken"})
    assert found["broken"] is None
    assert found["notes"] is not None
    assert views.of(answer(broken=1), {"broken"})["broken"] is not None


@pytest.mark.parametrize("wrong", [[], {"items": [[]]}, {"items": [{"name": "notes"}]}])
def test_what_is_no_answer_of_the_proxy_is_refused(wrong: Any) -> None:
    with pytest.raises((ValidationError, KeyError)):
        TrafficViews().of(wrong, {"notes"})
