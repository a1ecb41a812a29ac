"""The canary's share of errors over a window, and whose fault they are."""

from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from services.monitor.alerts.traffic_window import Window
from services.monitor.rules.rule import Reading
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_cache import TrafficCache
from services.monitor.samples.traffic_sample import TrafficSample
from shared.models import Track
from shared.proxy_models import LatencyHistogram, TrackTraffic, TrafficView
from tests.support.kept_items import kept_items

AT = datetime(2026, 1, 1, tzinfo=UTC)
NONE = LatencyHistogram(le_ms=[None], counts=[0])


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def traffic(
    canary: tuple[int, int], stable: tuple[int, int] = (0, 0), epoch: str = "e1", release: str = "notes-r9"
) -> TrafficView:
    tracks = {
        Track.CANARY: TrackTraffic(release=release, requests=canary[0], errors=canary[1], latency=NONE),
        Track.STABLE: TrackTraffic(release="notes-r8", requests=stable[0], errors=stable[1], latency=NONE),
    }
    return TrafficView(epoch=epoch, share_set=0.33, share_seen=None, tracks=tracks)


NO_CANARY = TrafficView(
    epoch="e0",
    share_set=0,
    share_seen=None,
    tracks={track: TrackTraffic(release=None, requests=0, errors=0, latency=NONE) for track in Track},
)


def after(canary: tuple[int, int], stable: tuple[int, int]) -> Reading:
    """One step from nothing to these counts."""
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic(canary, stable), at(4))
    return window.canary_errors("notes-r9", at(4))


@pytest.mark.parametrize(
    ("canary", "stable", "share"),
    [
        ((41, 41), (80, 0), 1.0),
        ((100, 5), (200, 4), 0.0),  # may be chance
        ((1000, 50), (2000, 40), 0.05),  # the same shares of more requests
        ((20, 4), (40, 0), 0.0),
        ((20, 6), (40, 0), 0.3),
        ((20, 2), (19, 0), None),  # two answers, and nothing to compare them with
        ((20, 3), (19, 0), 0.15),
        ((100, 2), (19, 0), 0.02),
        ((100, 0), (200, 0), 0.0),
        ((100, 0), (200, 50), 0.0),
        ((100, 50), (200, 100), 0.0),  # equally bad
        ((100, 50), (200, 50), 0.0),  # half as bad
        ((100, 50), (200, 49), 0.5),  # less than half as bad
        ((100, 50), (19, 19), 0.5),  # stable has too few requests to be an excuse
        ((20, 20), (0, 0), 1.0),
        ((19, 19), (80, 0), None),
        ((0, 0), (80, 0), None),
    ],
)
def test_the_share_of_errors(canary: tuple[int, int], stable: tuple[int, int], share: float | None) -> None:
    assert after(canary, stable).value == share


def test_a_reading_says_its_figures() -> None:
    assert after((41, 41), (80, 0)).description == "failed 41 of 41 requests in 4 s; stable 0 of 80"


def test_without_a_look_there_is_no_reading() -> None:
    window = Window()
    assert window.canary_errors("notes-r9", at(0)).value is None
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100)), at(1))
    assert window.canary_errors("notes-r9", at(11)).value == 1.0
    assert window.canary_errors("notes-r9", at(12)).value is None  # the proxy is silent for too long


def test_only_the_last_ten_seconds_count_if_they_have_enough_requests() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    for second in range(1, 31):
        errors = 0 if second <= 20 else (second - 20) * 10
        window.add(traffic((second * 10, errors)), at(second))
    assert window.canary_errors("notes-r9", at(30)).value == 1.0
    assert "100 of 100 requests in 10 s" in window.canary_errors("notes-r9", at(30)).description


def test_with_few_visitors_the_window_reaches_further_back() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    for second in range(1, 61):
        window.add(traffic((second // 2, second // 2)), at(second))
    reading = window.canary_errors("notes-r9", at(60))
    assert (reading.value, reading.description.split(";")[0]) == (1.0, "failed 20 of 20 requests in 39 s")


def test_a_monitor_that_starts_late_counts_from_its_first_look() -> None:
    window = Window()
    window.add(traffic((1000, 1000)), at(0))
    assert window.canary_errors("notes-r9", at(0)).value is None
    window.add(traffic((1100, 1000)), at(1))
    assert window.canary_errors("notes-r9", at(1)).value == 0.0


def test_a_new_epoch_begins_at_zero() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100)), at(1))
    window.add(traffic((30, 3), epoch="e2"), at(2))
    assert window.canary_errors("notes-r9", at(2)).value == 0.1


def test_what_another_release_answered_does_not_count() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100), release="notes-r7"), at(1))
    assert window.canary_errors("notes-r9", at(1)).value is None
    window.add(traffic((100, 100)), at(2))
    assert window.canary_errors("notes-r9", at(2)).value == 1.0
    window.add(traffic((30, 0), epoch="e2", release="notes-r10"), at(3))
    assert window.canary_errors("notes-r9", at(3)).value is None
    assert window.canary_errors("notes-r10", at(3)).value == 0.0


# --- production, latency ---------------------------------------------------------------------------------------------


def timed(canary: tuple[int, float], stable: tuple[int, float], epoch: str = "e1") -> TrafficView:
    """Requests of each track, and how many milliseconds each of them took."""

    def track(release: str, requests: int, each_ms: float) -> TrackTraffic:
        bounds: list[float | None] = [25, 50, 100, 250, None]
        counts = [requests if bound is None or bound >= each_ms else 0 for bound in bounds]
        latency = LatencyHistogram(le_ms=bounds, counts=counts)
        return TrackTraffic(release=release, requests=requests, errors=0, latency=latency)

    tracks = {Track.CANARY: track("notes-r9", *canary), Track.STABLE: track("notes-r8", *stable)}
    return TrafficView(epoch=epoch, share_set=0.33, share_seen=None, tracks=tracks)


@pytest.mark.parametrize(
    ("stable", "share"),
    [
        ((40, 4), 0.1),
        ((40, 2), None),
        ((100, 2), 0.02),
        ((40, 0), 0.0),
        ((20, 20), 1.0),
        ((19, 19), None),
        ((0, 0), None),
    ],
)
def test_the_share_of_errors_of_production(stable: tuple[int, int], share: float | None) -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(traffic((100, 100), stable), at(4))
    reading = window.stable_errors("notes-r8", at(4))
    assert reading.value == share
    assert reading.description.startswith(f"failed {stable[1]} of {stable[0]} requests in 4 s")
    assert window.stable_errors("notes-r7", at(4)).value is None


@pytest.mark.parametrize(
    ("canary", "stable", "multiple"),
    [
        ((100, 240), (100, 90), 2.49),  # 242.5 ms beside 97.5
        ((100, 40), (100, 20), 2.05),  # 48.75 beside 23.75: exactly 25 ms more
        ((100, 20), (100, 20), 1.0),
        ((100, 20), (100, 240), 1.0),
        ((99, 240), (100, 20), None),
        ((100, 240), (99, 20), None),
    ],
)
def test_the_canarys_p95_beside_stables(
    canary: tuple[int, float], stable: tuple[int, float], multiple: float | None
) -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(timed(canary, stable), at(4))
    assert window.slowness("notes-r9", at(4)).value == (multiple and pytest.approx(multiple, abs=0.01))


def test_less_than_25_ms_more_is_no_difference() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    bounds: list[float | None] = [1, 25, None]
    slow, fast = (
        TrackTraffic(release=name, requests=200, errors=0, latency=LatencyHistogram(le_ms=bounds, counts=counts))
        for name, counts in (("notes-r9", [0, 200, 200]), ("notes-r8", [200, 200, 200]))
    )
    tracks = {Track.CANARY: slow, Track.STABLE: fast}
    window.add(TrafficView(epoch="e1", share_set=0.33, share_seen=None, tracks=tracks), at(4))
    reading = window.slowness("notes-r9", at(4))
    assert (reading.value, reading.evidence["canary_p95_ms"], reading.evidence["stable_p95_ms"]) == (1.0, 23.8, 0.95)


@pytest.mark.parametrize(
    ("canary_slow", "stable_slow", "is_slower"),
    [(12, 8, False), (20, 8, False), (50, 8, True), (8, 50, False)],
)
def test_a_slow_twentieth_is_no_difference_by_itself(canary_slow: int, stable_slow: int, is_slower: bool) -> None:
    """Both tracks answered 200 requests, of which the given numbers were slow, so that p95 is either 24 ms or about
    240.
    """

    def track(release: str, slow: int) -> TrackTraffic:
        histogram = LatencyHistogram(le_ms=[25, 200, 250, None], counts=[200 - slow, 200 - slow, 200, 200])
        return TrackTraffic(release=release, requests=200, errors=0, latency=histogram)

    window = Window()
    window.add(NO_CANARY, at(0))
    tracks = {Track.CANARY: track("notes-r9", canary_slow), Track.STABLE: track("notes-r8", stable_slow)}
    window.add(TrafficView(epoch="e1", share_set=0.33, share_seen=None, tracks=tracks), at(4))
    reading = window.slowness("notes-r9", at(4))
    assert (reading.value is not None and reading.value > 2) is is_slower


def test_latency_is_that_of_the_last_thirty_seconds() -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    for second in range(1, 61):
        window.add(timed((second * 10, 20), (second * 10, 20)), at(second))
    assert (
        window.p95_ms(Track.CANARY, "notes-r9", at(60), compared=False).description
        == "its p95 is 24 ms of 300 requests in 30 s"
    )


@pytest.mark.parametrize(("requests", "p95"), [(20, 242.5), (19, None), (0, None)])
def test_p95_alone_wants_twenty_requests(requests: int, p95: float | None) -> None:
    window = Window()
    window.add(NO_CANARY, at(0))
    window.add(timed((0, 0), (requests, 240)), at(4))
    assert window.p95_ms(Track.STABLE, "notes-r8", at(4), compared=False).value == p95
    assert window.p95_ms(Track.STABLE, "notes-r7", at(4), compared=False).value is None
    assert window.p95_ms(Track.STABLE, "notes-r8", at(15), compared=False).value is None


# --- samples ---------------------------------------------------------------------------------------------------------


async def stored(cache: TrafficCache, store: SampleStore, release: str) -> list[TrafficSample]:
    await cache.flush()
    return await store.traffic(release, at(0), at(999))


@pytest.mark.anyio
async def test_a_release_is_sampled_every_two_seconds(redis: Redis) -> None:
    store = SampleStore(redis)
    cache = TrafficCache(store)
    for half in range(9):
        cache.record([timed((half * 10, 240), (half * 30, 20))], at(half / 2))
    canary = await stored(cache, store, "notes-r9")
    assert [(item.at, item.requests, item.request_rate, item.p95_ms) for item in canary] == [
        (at(2), 40, 20.0, 242.5),
        (at(4), 40, 20.0, 242.5),
    ]
    assert [item.requests for item in await stored(cache, store, "notes-r8")] == [120, 120]


@pytest.mark.anyio
async def test_counters_of_two_epochs_or_over_a_gap_make_no_sample(redis: Redis) -> None:
    store = SampleStore(redis)
    cache = TrafficCache(store)
    looks = ((0, 100, "e1"), (2, 120, "e1"), (4, 10, "e2"), (6, 30, "e2"), (16, 230, "e2"), (18, 231, "e2"))
    for second, requests, epoch in looks:
        cache.record([timed((requests, 20), (0, 0), epoch)], at(second))
    canary = await stored(cache, store, "notes-r9")
    assert [(item.at, item.requests) for item in canary] == [(at(2), 20), (at(6), 20), (at(18), 1)]


@pytest.mark.anyio
async def test_releases_that_came_and_went_take_no_memory(redis: Redis) -> None:
    cache, kept = TrafficCache(SampleStore(redis)), []
    for number in range(5):
        for second, release in ((0, "r1"), (2, "r1"), (4, "r2")):  # the second one is seen once, and never sampled
            view = traffic((second, 0), epoch=f"e{number}", release=f"app{number}-{release}")
            cache.record([view], at(1000 * number + second))
        await cache.flush()
        kept.append(kept_items(cache))
    assert kept == kept[:1] * 5
