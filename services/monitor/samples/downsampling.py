"""Aggregates the samples of a time step into one row with minimum, maximum, mean and last value. Pure."""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from pydantic import Field

from shared.models import View

MINUTE_S = 60
Measured = TypeVar("Measured", bound="Figures")


class Spread(View):
    """Holds the distribution of one figure over a time step. It includes the maximum, because averages hide spikes."""

    min: float
    max: float
    avg: float
    last: float


class Rollup(View):
    """Holds a row: the aggregate of `count` samples of one instance or release over a time step."""

    of: str = Field(description="Id of the instance or release.")
    at: datetime = Field(description="Start of the time step.")
    count: int
    figures: dict[str, Spread] = Field(description="By name; a figure that no sample had is left out.")
    sums: dict[str, int] = Field({}, description="Totals over the time step by name, such as `requests`.")


class Figures(Protocol):
    """Describes a sample that can be downsampled. `at` is its time. `figures` returns name → measured value, None for
    one that was not measured. `sums` returns name → what was counted since the previous sample.
    """

    @property
    def at(self) -> datetime: ...

    def figures(self) -> dict[str, float | None]: ...

    def sums(self) -> dict[str, int]: ...


def rolled(of: str, samples: Iterable[Measured], step_s: int) -> list[Rollup]:
    """Returns one row for each time step of `step_s` seconds that has samples. Samples must be, and rows are, oldest
    first.
    """
    return merged([_row(of, sample) for sample in samples], step_s)


def merged(rows: Iterable[Rollup], step_s: int) -> list[Rollup]:
    """Returns the rows aggregated to time steps of `step_s` seconds. The given rows must be, and the returned ones are,
    oldest first.
    """
    steps: dict[datetime, list[Rollup]] = {}
    for row in rows:
        steps.setdefault(start_of(row.at, step_s), []).append(row)
    return [_together(at, parts) for at, parts in steps.items()]


def start_of(at: datetime, step_s: int) -> datetime:
    """Returns the beginning of the time step that contains `at`."""
    return datetime.fromtimestamp(int(at.timestamp()) // step_s * step_s, UTC)


def hours(since: datetime, until: datetime) -> list[int]:
    """Returns the hours (counted since 1970) that overlap the period from `since` to `until`."""
    return list(range(hour_of(since), hour_of(until) + 1))


def hour_of(at: datetime) -> int:
    return int(at.timestamp()) // 3600


def packed(rows: Iterable[Rollup]) -> str:
    """Returns the rows of one hour as text: deflated JSON in base64, because the Redis client reads only text."""
    lines = [
        [int(row.at.timestamp()), row.count, {name: _short(spread) for name, spread in row.figures.items()}, row.sums]
        for row in sorted(rows, key=lambda row: row.at)
    ]
    return base64.b64encode(zlib.compress(json.dumps(lines, separators=(",", ":")).encode(), 9)).decode()


def unpacked(of: str, text: str | None) -> list[Rollup]:
    """Returns the rows of the instance or release `of` from a text that `packed` made, oldest first; empty for None."""
    return [
        Rollup(
            of=of,
            at=datetime.fromtimestamp(start, UTC),
            count=count,
            figures={name: _long(values) for name, values in figures.items()},
            sums=sums,
        )
        for start, count, figures, sums in _lines(text)
    ]


def highest(texts: Iterable[str | None], since: datetime, until: datetime) -> dict[str, float]:
    """Returns figure → its maximum in the rows from `since` to `until`. `texts` holds results of `packed`, or None for
    no rows. This is much faster than parsing all rows with `unpacked`.
    """
    found: dict[str, float] = {}
    for text in texts:
        for start, _, figures, _ in _lines(text):
            if since.timestamp() <= start <= until.timestamp():
                for name, values in figures.items():
                    found[name] = max(found.get(name, values[-1]), *values)
    return found


def _lines(text: str | None) -> list[Any]:
    return json.loads(zlib.decompress(base64.b64decode(text))) if text else []


def replaced(old: Iterable[Rollup], new: Iterable[Rollup]) -> list[Rollup]:
    """Returns old and new rows together, oldest first. A new row replaces an old one of the same time step."""
    rows = {row.at: row for row in (*old, *new)}
    return [rows[at] for at in sorted(rows)]


def _row(of: str, sample: Figures) -> Rollup:
    spreads = {
        name: Spread(min=value, max=value, avg=value, last=value)
        for name, value in sample.figures().items()
        if value is not None
    }
    return Rollup(of=of, at=sample.at, count=1, figures=spreads, sums=sample.sums())


def _together(at: datetime, parts: Sequence[Rollup]) -> Rollup:
    names = dict.fromkeys(name for part in parts for name in part.figures)
    sums = {name: sum(part.sums[name] for part in parts) for name in parts[0].sums}
    figures = {name: _spread([part for part in parts if name in part.figures], name) for name in names}
    return Rollup(of=parts[0].of, at=at, count=sum(part.count for part in parts), figures=figures, sums=sums)


def _spread(parts: Sequence[Rollup], name: str) -> Spread:
    spreads = [part.figures[name] for part in parts]
    weighed = sum(part.figures[name].avg * part.count for part in parts)
    return Spread(
        min=min(spread.min for spread in spreads),
        max=max(spread.max for spread in spreads),
        avg=round(weighed / sum(part.count for part in parts), 4),
        last=spreads[-1].last,
    )


def _short(spread: Spread) -> list[float]:
    """Returns minimum, maximum, mean and last value of the figure, or a single value if all four are equal."""
    values = [_plain(value) for value in (spread.min, spread.max, spread.avg, spread.last)]
    return values[:1] if len(set(values)) == 1 else values


def _long(values: list[float]) -> Spread:
    low, high, mean, last = values * 4 if len(values) == 1 else values
    return Spread(min=low, max=high, avg=mean, last=last)


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
