"""Samples → rows of a minute, packed and back; what a series rolls up and keeps; what waits for the store."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from services.monitor.samples.downsampling import Spread, hours, merged, packed, replaced, rolled, start_of, unpacked
from services.monitor.samples.sample import Sample, item_of
from services.monitor.samples.time_series import TimeSeries
from services.monitor.samples.traffic_sample import TrafficSample, traffic_item_of
from services.monitor.samples.write_buffer import WriteBuffer

AT = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def one(seconds: float, cpu: float | None, memory: float = 0.5) -> Sample:
    return Sample(at=at(seconds), cpu=cpu, working_set=int(memory * 100), memory_limit=100, memory=memory)


def answered(seconds: float, requests: int, p95_ms: float | None) -> TrafficSample:
    rates = {"request_rate": requests / 2, "error_rate": 0.0, "p50_ms": None, "p99_ms": None}
    return TrafficSample(at=at(seconds), requests=requests, errors=0, p95_ms=p95_ms, **rates)


def test_a_row_has_lowest_highest_mean_and_last() -> None:
    samples = [one(0, None, 0.1), one(2, 90, 0.3), one(4, 5, 0.2), one(10, None, 0.1)]
    first, second = rolled("notes-r9-1", samples, 10)
    assert (first.at, first.count) == (at(0), 3)
    assert first.figures["memory"] == Spread(min=0.1, max=0.3, avg=0.2, last=0.2)
    assert first.figures["cpu"] == Spread(min=5, max=90, avg=47.5, last=5)
    assert (second.at, second.count, "cpu" in second.figures) == (at(10), 1, False)
    assert rolled("notes-r9-1", [], 10) == []


def test_rows_become_longer_rows() -> None:
    samples = [one(second, float(second)) for second in range(0, 180, 2)]
    straight = rolled("notes-r9-1", samples, 180)
    assert merged(rolled("notes-r9-1", samples, 60), 180) == straight
    assert straight[0].figures["cpu"] == Spread(min=0, max=178, avg=89, last=178)


def test_an_item_has_the_highest_figures() -> None:
    item = item_of(rolled("notes-r9-1", [one(1, 10, 0.2), one(3, 20, 0.1)], 60)[0])
    assert (item.at, item.cpu, item.memory, item.working_set) == (at(0), 20, 0.2, 20)
    assert item.spread is not None and item.spread["cpu"].min == 10
    assert item_of(rolled("notes-r9-1", [one(1, None)], 1)[0]).cpu is None


def test_requests_are_added_up_and_latency_without_requests_is_unknown() -> None:
    row = rolled("notes-r9", [answered(0, 4, 12.5), answered(2, 0, None), answered(4, 6, 2.5)], 60)[0]
    item = traffic_item_of(row)
    assert (item.requests, item.request_rate, item.p95_ms, item.p99_ms) == (10, 3.0, 12.5, None)
    quiet = traffic_item_of(rolled("notes-r9", [answered(0, 0, None)], 60)[0])
    assert (quiet.requests, quiet.p95_ms) == (0, None)


def test_packed_rows_come_back() -> None:
    rows = rolled("notes-r9-1", [one(second, second / 7, second / 999) for second in range(0, 600, 2)], 60)
    assert unpacked("notes-r9-1", packed(rows)) == rows
    assert unpacked("notes-r9-1", None) == []
    assert unpacked("notes-r9-1", packed([])) == []


def test_an_hour_of_rows_is_small() -> None:
    samples = [one(second, second * 7.31 % 100, second * 13 % 1000 / 1000) for second in range(0, 3600, 2)]
    assert len(packed(rolled("notes-r9-1", samples, 60))) < 4096


def test_a_newer_row_of_the_same_minute_counts() -> None:
    old = rolled("notes-r9-1", [one(0, 1), one(60, 1)], 60)
    new = rolled("notes-r9-1", [one(60, 2), one(120, 2)], 60)
    assert [(row.at, row.figures["cpu"].last) for row in replaced(old, new)] == [(at(0), 1), (at(60), 2), (at(120), 2)]


def test_the_hours_of_a_span() -> None:
    first = int(AT.timestamp()) // 3600
    assert hours(at(0), at(3599)) == [first]
    assert hours(at(3599), at(7200)) == [first, first + 1, first + 2]
    assert start_of(at(119.5), 60) == at(60)


def test_a_series_rolls_each_minute_up_once_it_is_over() -> None:
    series: TimeSeries[Sample] = TimeSeries("notes-r9-1")
    rows = []
    for second in range(0, 200, 2):
        series.add(one(second, 1.0))
        rows += series.due(at(second))
    assert [(row.at, row.count) for row in rows] == [(at(0), 30), (at(60), 30), (at(120), 30)]
    assert series.due(at(200)) == []
    assert [row.at for row in series.due(at(240))] == [at(180)]  # also when nothing more comes


def test_a_series_keeps_five_minutes_and_ends_empty() -> None:
    series: TimeSeries[Sample] = TimeSeries("notes-r9-1")
    for second in range(0, 400, 2):
        series.add(one(second, 1.0))
        series.due(at(second))
    assert [series.recent(at(398))[0].at, series.recent(at(398))[-1].at] == [at(98), at(398)]
    assert series.recent(at(698)) == [one(398, 1.0)]
    series.due(at(760))
    assert series.empty


def test_older_samples_are_put_before_those_that_are_there() -> None:
    series: TimeSeries[Sample] = TimeSeries("notes-r9-1")
    series.add(one(100, 3.0))
    series.restore([one(10, 1.0), one(20, 2.0), one(100, 9.0), one(110, 9.0)])
    assert [(item.at, item.cpu) for item in series.recent(at(100))] == [(at(10), 1.0), (at(20), 2.0), (at(100), 3.0)]


@pytest.mark.anyio
async def test_what_could_not_be_written_waits_within_bounds() -> None:
    backlog: WriteBuffer[int] = WriteBuffer(capacity=4)
    written: list[int] = []

    async def fail(batch: Sequence[int]) -> None:
        backlog.add([9])  # came while it was being written
        raise OSError("away")

    async def write(batch: Sequence[int]) -> None:
        written.extend(batch)

    backlog.add([1, 2])
    with pytest.raises(OSError, match="away"):
        await backlog.flush(fail)
    backlog.add([3, 4])
    await backlog.flush(write)
    await backlog.flush(write)
    assert written == [2, 9, 3, 4]
