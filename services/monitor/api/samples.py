"""Defines the REST routes of instances, and of measurements of instances and releases over time."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from math import ceil
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from services.monitor.samples.downsampling import MINUTE_S, Measured, Rollup, merged, rolled, start_of
from services.monitor.samples.sample import SampleItem, Watched, item_of
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.samples.traffic_sample import TrafficItem, traffic_item_of
from shared.clock import Time, now
from shared.errors import Invalid, NotFound
from shared.models import Page
from shared.web.paging import Item, Limit, TimeCursor, page_of, time_key

RAW_KEPT = timedelta(hours=1)
ROWS_KEPT = timedelta(hours=24)
MOST_ITEMS = 1000

From = Annotated[Time | None, Query(alias="from", description="Start of the time range; else an hour before `to`.")]
To = Annotated[Time | None, Query(alias="to", description="End of the time range; now, if absent.")]
Step = Annotated[int, Query(ge=1, le=3600, description="Length of the time steps, in seconds; one item for each.")]
Read = Callable[[str, datetime, datetime], Awaitable[list[Measured]]]


class Samples(Page[Item]):
    """Response body with the measurements of a time range, all on one page."""

    step: int = Field(
        description="Length of the time steps, in seconds; longer than asked for if there would be over 1000."
    )


def samples_router(cache: SampleCache, store: SampleStore) -> APIRouter:
    router = APIRouter(tags=["samples"])

    @router.get("/instances", summary="Instances with their last sample")
    async def list_instances(app: str | None = None, limit: Limit = 100, cursor: TimeCursor = None) -> Page[Watched]:
        """Lists the instances, last started first. An instance that gives no samples any more is listed for an hour
        after its last sample.
        """
        found = [item for item in await cache.instances(now()) if app in (None, item.app)]
        return page_of(found, lambda item: time_key(item.started_at, item.id), limit, cursor)

    @router.get("/instances/{id}/samples", summary="CPU and memory of an instance over time")
    async def list_samples(id: str, since: From = None, until: To = None, step: Step = 2) -> Samples[SampleItem]:
        """Lists the highest figures of each time step, newest first; `spread` holds minimum, mean and last. Samples are
        taken every 2 s and kept for an hour. For an earlier start, or steps of a minute and more, the items are
        aggregates of minutes, which are kept for 24 h. A longer time range is cut to the time for which data are kept.
        Steps are longer than `step` if there would be more than 1000 items; the answer's `step` is their length in
        seconds.
        """
        rows, step = await rows_of(store, store.samples, id, since, until, step)
        return Samples(items=[item_of(row) for row in reversed(rows)], step=step)

    @router.get("/releases/{id}/samples", summary="Requests, errors and latency of a release over time")
    async def list_traffic(id: str, since: From = None, until: To = None, step: Step = 2) -> Samples[TrafficItem]:
        """Lists all requests and errors of each time step, and its highest rates and latencies, newest first; `spread`
        holds minimum, mean and last. Samples are taken every 2 s and kept for an hour. For an earlier start, or steps
        of a minute and more, the items are aggregates of minutes, which are kept for 24 h. Steps are longer than `step`
        if there would be more than 1000 items; the answer's `step` is their length in seconds.
        """
        rows, step = await rows_of(store, store.traffic, id, since, until, step)
        return Samples(items=[traffic_item_of(row) for row in reversed(rows)], step=step)

    return router


async def rows_of(
    store: SampleStore, read: Read[Measured], of: str, since: datetime | None, until: datetime | None, step_s: int
) -> tuple[list[Rollup], int]:
    """Returns one row for each time step, oldest first, and the length of the steps in seconds. `read` reads samples of
    `of`, an instance or a release. The time range is cut to the time for which samples are kept. The steps are longer
    than `step_s` if there would be more than 1000 of them, and are whole minutes if the rows aggregate minutes. Raises
    Invalid if `since` is after `until`, and NotFound if nothing was measured.
    """
    moment = now()
    oldest = moment - ROWS_KEPT - RAW_KEPT
    if since is not None and since > (until or moment):
        raise Invalid("from", "is after `to`; swap them")
    end = min(max(until or moment, oldest), moment)
    start = min(max(since or end - RAW_KEPT, oldest), end)
    step_s = max(step_s, ceil((end - start).total_seconds() / MOST_ITEMS))
    if step_s < MINUTE_S and start >= moment - RAW_KEPT - timedelta(seconds=MINUTE_S):
        rows = rolled(of, await read(of, start, end), step_s)
    else:
        step_s = ceil(step_s / MINUTE_S) * MINUTE_S
        start = start_of(start, MINUTE_S)
        minutes = await store.rollups(of, start, end)
        open_since = minutes[-1].at + timedelta(seconds=MINUTE_S) if minutes else start
        rows = merged([*minutes, *rolled(of, await read(of, open_since, end), MINUTE_S)], step_s)
    if not rows and not await store.knows(of, moment):
        raise NotFound(f"nothing was measured of {of} within 24 h; GET /instances lists instances and their releases")
    return rows, step_s
