"""The counts of an app, from lines of Envoy's access log."""

from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.proxy.counting.request_counts import RequestCounts, sampling
from services.proxy.routes.route import Route
from shared.models import Track
from shared.proxy_models import JudgedTrack, JudgedTraffic, LeftOut, RequestError
from tests.support.proxy.access_lines import CANARY, NO_ANSWER, line, waiting
from tests.support.proxy.routes import endpoint, route

STABLE_ONE, CANARY_ONE = endpoint("notes-r1-1"), endpoint("notes-r2-1", port=20001)
ROUTE = route(STABLE_ONE, canary=(CANARY_ONE,), rollout="notes-r2")
CLOSED = route(STABLE_ONE, canary=(CANARY_ONE,))
LEFT = {**NO_ANSWER, "flags": "DC", "details": "downstream_remote_disconnect"}
START_S = 1764457000


class Counted:
    """Counts of lines, with the figures of one app."""

    def __init__(self, *lines: str, of: Route = ROUTE) -> None:
        epochs = count(1)
        self.counts = RequestCounts(lambda: f"epoch {next(epochs)}")
        self.add(*lines, of=of)

    def add(self, *lines: str, of: Route = ROUTE, one_in: int = 1) -> None:
        self.route = of
        self.counts.view(of)
        self.counts.add(lines, {of.app: of}, one_in)

    def figures(self) -> list[tuple[int, int, int]]:
        """Requests, errors and latencies of both tracks."""
        tracks = self.counts.view(self.route).tracks
        shown = (tracks[track] for track in (Track.STABLE, Track.CANARY))
        return [(each.requests, each.errors, each.latency.total) for each in shown]

    @property
    def judged(self) -> JudgedTraffic:
        judged = self.counts.view(self.route).judged
        assert judged is not None
        return judged

    def track(self, track: Track = Track.CANARY) -> JudgedTrack:
        return self.judged.tracks[track]


def test_a_request_counts_for_the_track_it_was_assigned_to() -> None:
    counted = Counted(line(), line(CANARY), line(CANARY, status="500"))
    assert counted.figures() == [(1, 0, 1), (2, 1, 2)]
    assert counted.counts.view(ROUTE).share_seen == 2 / 3
    assert counted.track().errors == {RequestError.STATUS: 1}


def test_a_request_that_the_canary_broke_and_production_answered_is_the_canarys_error() -> None:
    counted = Counted(line(cluster="notes/split", attempts="2"))
    assert counted.figures() == [(0, 0, 0), (1, 1, 0)]
    assert counted.track().errors == {RequestError.FAILED_OVER: 1}
    assert Counted(line(cluster="notes/split"), of=CLOSED).figures() == [(0, 0, 0), (1, 0, 0)]


def test_only_requests_to_the_tracks_release_count() -> None:
    unreachable = {**NO_ANSWER, "track": "-", "release": "-", "status": "503", "flags": "UH", "details": "none"}
    counted = Counted(line(release="notes-r0"), line(CANARY, release="notes-r1"), line(CANARY, unreachable))
    assert counted.figures() == [(0, 0, 0), (1, 1, 0)]


def test_a_new_release_begins_an_epoch_at_zero_and_a_new_share_does_not() -> None:
    counted = Counted(line())
    first = counted.counts.view(ROUTE)
    lighter = ROUTE.model_copy(update={"weight": 5})
    counted.add(line(), of=lighter)
    assert counted.counts.view(lighter).epoch == first.epoch
    assert (counted.figures()[0], counted.judged.weight) == ((2, 0, 2), 5)

    newer = route(endpoint("notes-r3-1", port=20003), canary=(CANARY_ONE,), rollout="notes-r2")
    counted.add(line(release="notes-r3"), of=newer)
    assert counted.counts.view(newer).epoch != first.epoch
    assert counted.figures() == [(1, 0, 1), (0, 0, 0)]


def test_visitors_who_leave_are_errors_for_the_analysis_alone() -> None:
    counted = Counted(line(CANARY, LEFT), line(CANARY, flags="DC", details="downstream_remote_disconnect"))
    assert counted.figures()[1] == (2, 0, 1)
    assert counted.track().errors == {RequestError.GAVE_UP: 1}


def test_answers_4xx_of_the_app_are_client_errors() -> None:
    counted = Counted(line(CANARY, status="404"), line(CANARY, status="408", details="request_overall_timeout"))
    assert (counted.track().client_errors, counted.track().errors, counted.figures()[1]) == (1, {}, (2, 0, 2))


def test_what_envoy_refuses_does_not_count_as_an_answer_of_a_release() -> None:
    refused = {"details": "rbac_access_denied_matched_policy[trace]", "track": "-", "release": "-"}
    counted = Counted(line(refused, status="405"), line(CANARY, refused, status="400"))
    assert counted.figures() == [(0, 0, 0), (0, 0, 0)]
    assert counted.track().requests == 0


def test_requests_that_chose_their_track_are_left_out_of_the_analysis() -> None:
    forced = [line(CANARY, route=f"notes/{kind}", status="500") for kind in ("always", "never", "production", "canary")]
    counted = Counted(*forced, line(route="notes/page", status="503", details="direct_response"), line(route="-"))
    assert counted.figures()[1] == (4, 4, 4)
    assert (counted.track().requests, counted.judged.left_out) == (0, {LeftOut.FORCED: 4})


def test_nothing_is_judged_without_an_open_rollout() -> None:
    counted = Counted(line(), of=CLOSED)
    assert counted.counts.view(CLOSED).judged is None
    counted.add(line(route="notes/stable"))
    assert counted.track(Track.STABLE).requests == 0
    assert counted.judged.left_out == {}


def test_streams_count_without_their_latency() -> None:
    counted = Counted(line(CANARY, content_type="text/event-stream", first_byte_us="9000000"), line(CANARY))
    assert counted.figures()[1] == (2, 0, 1)
    assert (counted.track().requests, counted.track().latency.total) == (2, 1)
    assert counted.judged.left_out == {LeftOut.STREAM: 1}


def test_a_request_without_an_answer_hangs_once_after_three_seconds() -> None:
    counted = Counted(waiting(2000, CANARY), waiting(3000, CANARY))
    assert counted.figures()[1] == (0, 0, 0)
    counted.add(waiting(3001, CANARY), waiting(4001, CANARY), line(CANARY, LEFT, duration_ms="5000"))
    assert counted.figures()[1] == (1, 1, 0)
    assert counted.track().errors == {RequestError.HANGING: 1}
    assert counted.judged.hang_limit_ms == 3000


def test_a_request_hangs_later_the_longer_production_needs() -> None:
    counted = Counted(line(first_byte_us="4000000"), waiting(8000, CANARY), waiting(8000))
    assert counted.judged.hang_limit_ms == 8000
    assert counted.track().errors == counted.track(Track.STABLE).errors == {}
    counted.add(waiting(8001, CANARY))
    assert counted.track().errors == {RequestError.HANGING: 1}


def test_a_request_to_production_that_hung_and_was_answered_says_how_long_it_needed() -> None:
    counted = Counted(waiting(3001), line(first_byte_us="5000000", duration_ms="5001"))
    assert counted.figures()[0] == (1, 1, 0)
    assert counted.judged.hang_limit_ms == 10_000


def test_what_production_needed_long_ago_or_for_a_visitor_who_chose_it_is_no_measure() -> None:
    counted = Counted(line(first_byte_us="9000000"), line(route="notes/never", first_byte_us="60000000"))
    assert counted.judged.hang_limit_ms == 18_000
    counted.add(line(start_s=f"{START_S + 11 * 60}"))
    assert counted.judged.hang_limit_ms == 3000


def test_an_upload_that_is_still_arriving_does_not_hang() -> None:
    counted = Counted(waiting(50_000, CANARY, received_ms="-"), waiting(50_000, CANARY, received_ms="48000"))
    assert counted.track().errors == {}


def test_without_a_rollout_a_request_hangs_after_a_minute() -> None:
    counted = Counted(waiting(60_000, route="notes/stable"), of=CLOSED)
    assert counted.figures()[0] == (0, 0, 0)
    counted.add(waiting(60_001, route="notes/stable"), of=CLOSED)
    assert counted.figures()[0] == (1, 1, 0)


def test_at_most_five_requests_of_one_visitor_count_in_two_seconds() -> None:
    counted = Counted(*[line(CANARY, status="500", start_s=f"{START_S + number / 10}") for number in range(10)])
    assert (counted.track().requests, counted.judged.left_out) == (5, {LeftOut.CAPPED: 5})
    assert counted.figures()[1] == (10, 10, 10)
    counted.add(line(CANARY, start_s=f"{START_S + 2}"))
    counted.add(line(CANARY, start_s=f"{START_S + 1}"))  # of the window before, a little late
    assert (counted.track().requests, counted.judged.left_out) == (6, {LeftOut.CAPPED: 6})
    counted.add(line(CANARY, start_s=f"{START_S - 3600}"))  # the clock was set
    assert counted.track().requests == 7


def test_visitors_are_told_apart_by_their_cookies() -> None:
    known = {"route": "notes/known", "visitor": "notes-r2.a1"}
    counted = Counted(
        line(CANARY, request_id="a1"),
        line(CANARY, known, request_id="b"),
        line(CANARY, known, request_id="c", status="500"),
        line(CANARY, known, request_id="d", status="500"),
        line(CANARY, request_id="e", status="500"),
    )
    assert (counted.track().visitors, counted.track().failing_visitors, counted.judged.recognised) == (2, 2, 3)


def test_a_sample_stands_for_all_in_the_general_figures_alone() -> None:
    counted = Counted()
    lines = [line(CANARY, request_id=f"{number:02x}", start_s=f"{START_S + number}") for number in range(64)]
    counted.add(*lines, one_in=4)
    assert counted.figures()[1] == (64, 0, 64)
    assert (counted.track().requests, counted.judged.sampled_one_in) == (16, 4)
    assert counted.judged.left_out == {LeftOut.UNSAMPLED: 48}


def test_the_sample_is_smaller_the_more_lines_there_are() -> None:
    assert [sampling(rate) for rate in (0, 4000, 4001, 8001, 20_000, 60_000, 1e9)] == [1, 1, 2, 4, 8, 16, 16]


def test_the_figures_are_the_same_object_as_long_as_nothing_changes() -> None:
    counted = Counted(line())
    first = counted.counts.view(ROUTE)
    assert counted.counts.view(ROUTE) is first
    counted.add(line(route="shop/stable", cluster="shop/stable"), waiting(10), line(route="notes/page"))
    assert counted.counts.view(ROUTE) is first
    counted.add(line())
    assert counted.counts.view(ROUTE) is not first


def test_an_app_without_traffic_has_short_histograms() -> None:
    assert Counted(of=CLOSED).counts.view(CLOSED).tracks[Track.STABLE].latency.le_ms == [None]


FIELD = st.text(st.characters(exclude_characters="\n"), max_size=12)
ODD = st.one_of(
    st.text(st.characters(exclude_characters="\n"), max_size=80),
    st.dictionaries(
        st.sampled_from(["status", "details", "received_ms", "first_byte_us", "start_s", "track"]), FIELD
    ).map(lambda fields: line({**fields, "route": "shop/new", "cluster": "shop/split"})),
)
GOOD = st.builds(
    lambda number, **fields: line({"request_id": f"{number:x}", "start_s": f"{START_S + number}", **fields}),
    st.integers(0, 400),
    status=st.sampled_from(["200", "404", "500"]),
    cluster=st.sampled_from(["notes/split", "notes/stable"]),
    type=st.sampled_from(["DownstreamEnd", "DownstreamPeriodic"]),
    duration_ms=st.integers(0, 9999).map(str),
)
SHOP = route(endpoint("shop-r1-1", port=20005), app="shop")


def shown(lines: list[str]) -> dict[str, Any]:
    counted = Counted()
    counted.counts.add(lines, {"notes": ROUTE, "shop": SHOP})
    return counted.counts.view(ROUTE).model_dump()


@settings(max_examples=50, deadline=None)
@given(st.lists(GOOD, max_size=20), st.lists(ODD, max_size=10), st.randoms())
def test_odd_lines_change_no_count_of_others(good: list[str], odd: list[str], order: Any) -> None:
    mixed = list(good)
    for each in odd:
        mixed.insert(order.randint(0, len(mixed)), each)
    kept = [each for each in mixed if each not in odd or each in good]
    assert shown(mixed) == shown(kept)
