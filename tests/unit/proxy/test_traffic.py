from itertools import count

from services.proxy.envoy.admin import Clusters, Host, Latency
from services.proxy.routes.route import Route
from services.proxy.traffic import RequestCounts
from shared.models import Track
from tests.support.proxy.routes import endpoint, route

ROUTE = route(endpoint("notes-r1-1"), canary=(endpoint("notes-r2-1", port=20001),), rollout="notes-r2")


def new_counts() -> RequestCounts:
    epochs = count(1)
    return RequestCounts(lambda: f"epoch {next(epochs)}")


def clusters(stable: int, canary: int, errors: int = 0, *, healthy: bool = True) -> Clusters:
    hosts = (
        Host("notes/stable", "127.0.0.1:20000", True, 0, stable, 0),
        Host("notes/canary", "127.0.0.1:20001", healthy, 0, canary, errors),
    )
    return Clusters(frozenset({"notes/stable", "notes/canary", "notes/split"}), hosts)


def figures(counts: RequestCounts, given: Route = ROUTE) -> list[tuple[int, int]]:
    tracks = counts.view(given).tracks
    return [(tracks[track].requests, tracks[track].errors) for track in (Track.STABLE, Track.CANARY)]


def test_counting_starts_with_the_first_reading() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE], clusters(100, 50, 5))
    assert figures(counts) == [(0, 0), (0, 0)]
    counts.add_requests([ROUTE], clusters(102, 51, 6))
    assert figures(counts) == [(2, 0), (1, 1)]
    assert counts.view(ROUTE).share_seen == 1 / 3


def test_what_an_instance_answered_stays_counted_when_it_has_gone() -> None:
    counts = new_counts()
    second = endpoint("notes-r1-2", port=20002)
    both = route(endpoint("notes-r1-1"), second, canary=(endpoint("notes-r2-1", port=20001),), rollout="notes-r2")
    counts.add_requests([both], clusters(0, 0))
    two = Clusters(frozenset(), (*clusters(3, 0).hosts, Host("notes/stable", "127.0.0.1:20002", True, 0, 4, 1)))
    counts.add_requests([both], two)
    counts.add_requests([ROUTE], clusters(5, 0))
    assert figures(counts) == [(9, 1), (0, 0)]
    counts.add_requests([both], Clusters(frozenset(), (*clusters(5, 0).hosts, two.hosts[-1])))  # it comes back, from 0
    assert figures(counts, both) == [(13, 2), (0, 0)]


def test_a_new_release_begins_an_epoch_at_zero() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE], clusters(0, 0))
    counts.add_requests([ROUTE], clusters(10, 5))
    newer = route(endpoint("notes-r3-1", port=20003), canary=(endpoint("notes-r2-1", port=20001),), rollout="notes-r2")
    before, after = counts.view(ROUTE), counts.view(newer)
    assert before.epoch != after.epoch
    assert after.share_seen is None
    assert figures(counts, newer) == [(0, 0), (0, 0)]


def test_a_restart_of_envoy_begins_an_epoch_and_counts_from_zero() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE], clusters(0, 0))
    counts.add_requests([ROUTE], clusters(10, 5))
    before = counts.view(ROUTE).epoch
    counts.reset()
    counts.add_requests([ROUTE], clusters(2, 1))
    assert counts.view(ROUTE).epoch != before
    assert figures(counts) == [(2, 0), (1, 0)]


def latencies(stable: int, split: int, retries: int = 0) -> dict[str, Latency]:
    return {
        "notes/stable": Latency((1.0, 5.0), (0, stable), 0),
        "notes/split": Latency((1.0, 5.0), (split, split), retries),
    }


def test_latency_of_the_canary_is_that_of_the_split_but_for_windows_with_failover() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE], clusters(0, 0))

    def seen(stable: int, split: int, retries: int = 0, *, healthy: bool = True) -> list[int]:
        counts.add_latencies([ROUTE], clusters(0, 0, healthy=healthy), latencies(stable, split, retries))
        tracks = counts.view(ROUTE).tracks
        return [tracks[track].latency.counts[-1] for track in (Track.STABLE, Track.CANARY)]

    assert seen(5, 5) == [0, 0]  # the first reading
    assert seen(6, 8) == [1, 3]
    assert seen(7, 12, retries=1) == [2, 3]  # failed over
    assert seen(8, 13, retries=1) == [3, 3]  # what came late
    assert seen(9, 15, retries=1) == [4, 5]
    assert seen(9, 16, retries=1, healthy=False) == [4, 5]
    histogram = counts.view(ROUTE).tracks[Track.CANARY].latency
    assert (histogram.le_ms, histogram.counts) == ([1.0, 5.0, None], [5, 5, 5])


SHOP = route(endpoint("shop-r1-1", port=20005), app="shop")


def of_one(app: str, track: str, port: int, answered: int) -> Clusters:
    """A reading of one app alone."""
    hosts = (Host(f"{app}/{track}", f"127.0.0.1:{port}", True, 0, answered, 0),)
    return Clusters(frozenset({f"{app}/stable", f"{app}/canary", f"{app}/split"}), hosts, of_all_apps=False)


def of_all(shop: int, stable: int) -> Clusters:
    hosts = (*clusters(stable, 0).hosts, *of_one("shop", "stable", 20005, shop).hosts)
    return Clusters(frozenset({"notes/stable", "notes/canary", "notes/split", "shop/stable"}), hosts)


def test_a_reading_of_one_app_counts_that_app_and_no_request_twice() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE, SHOP], of_all(shop=10, stable=20))
    counts.add_requests([SHOP], of_one("shop", "stable", 20005, 13))
    counts.add_requests([ROUTE, SHOP], of_all(shop=14, stable=25))
    assert (figures(counts, SHOP)[0], figures(counts)[0]) == ((4, 0), (5, 0))


def test_a_reading_of_one_app_before_any_other_is_a_baseline_for_that_app_alone() -> None:
    counts = new_counts()
    counts.add_requests([SHOP], of_one("shop", "stable", 20005, 10))
    counts.add_requests([ROUTE, SHOP], of_all(shop=11, stable=20))
    assert (figures(counts, SHOP)[0], figures(counts)[0]) == ((1, 0), (0, 0))
    counts.add_requests([ROUTE, SHOP], of_all(shop=11, stable=21))
    assert figures(counts)[0] == (1, 0)


def test_an_app_that_is_new_since_the_last_reading_counts_from_zero() -> None:
    counts = new_counts()
    counts.add_requests([ROUTE], clusters(20, 0))
    counts.add_requests([SHOP], of_one("shop", "stable", 20005, 3))
    assert figures(counts, SHOP)[0] == (3, 0)
