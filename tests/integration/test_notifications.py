"""From events to mail, on a real Redis and a real mail server; nothing lost, nothing doubled, nobody held up."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.monitor.dispatch.delivery import MessageDeliveryState, Patience, begun
from services.monitor.dispatch.outbox_store import GROUP, SendOutcome
from services.monitor.notify.silence import SilenceBody, new_silence
from services.monitor.retention_store import RetentionStore
from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.events import STREAM
from shared.models import Environment
from shared.runtime.loops import Loop, running
from stack.clients.mail_sink import Mail, MailSink, mail_sink
from tests.support.monitor.notification_stack import (
    COMMIT,
    Monitor,
    Silent,
    durable_redis,
    fail_a_build,
    happen,
    webhook,
)

pytestmark = pytest.mark.anyio

S = MessageDeliveryState


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


async def mails(sink: MailSink, count: int, timeout_s: float = 10.0) -> list[Mail]:
    """All mails, once there are so many, and there are no more a moment later."""
    await asyncio.to_thread(sink.wait_for, lambda messages: len(messages) >= count, timeout_s)
    await asyncio.sleep(0.3)
    assert len(sink.messages) == count
    return sink.messages


async def until(monitor: Monitor, holds: Callable[[list[str]], bool], timeout_s: float = 10.0) -> None:
    """Waits until it holds of the deliveries' states, newest first."""
    deadline = time.monotonic() + timeout_s
    while not holds(states := [each.state.value for each in await monitor.deliveries()]):
        assert time.monotonic() < deadline, f"the deliveries stay {states}"
        await asyncio.sleep(0.02)


class Beat:
    """A loop beside the others, every 20 ms; `late_s` is the most that a step came too late."""

    def __init__(self) -> None:
        self.late_s = 0.0
        self._last: float | None = None
        self.loop = Loop("beat", self._step, every_s=0.02)

    async def _step(self) -> None:
        now = time.monotonic()
        if self._last is not None:
            self.late_s = max(self.late_s, now - self._last - 0.02)
        self._last = now


async def test_a_failed_build_is_told_to_the_manifest_s_and_the_platform_s_addresses_once_each(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    monitor = Monitor(redis, tmp_path, f"{sink.url('ops@example.com')} {sink.url('both@example.com')}")
    async with monitor.up():
        await fail_a_build(redis, notify=[sink.url("team@example.com,BOTH@example.com"), "nonsense://s3cret"])
        got = await mails(sink, 3)
        await until(monitor, lambda states: states.count("delivered") == 3)
    assert sorted(mail.to.lower() for mail in got) == ["both@example.com", "ops@example.com", "team@example.com"]
    for mail in got:
        assert mail.subject == "notes: build notes-17 failed on release: gate test_failures: 1, at most 0"
        for words in (COMMIT, "http://127.0.0.1:3000/builds/notes-17", "FAILED test_app.py::test_up", "release"):
            assert words in mail.text and words in mail.html
        assert "assert &#39;&lt;b&gt;&#39; == 2" in mail.html
        assert "assert '<b>' == 2" in mail.text
    deliveries = await monitor.deliveries()
    assert {each.state for each in deliveries} == {S.DELIVERED, S.FAILED}
    [unknown] = [each for each in deliveries if each.state is S.FAILED]
    assert (unknown.recipient, unknown.attempts) == ("nonsense://…", 0)
    assert "no address that apprise knows" in unknown.reason
    for each in deliveries:
        assert each.url is None
        if each.state is S.DELIVERED:
            assert any(mail.to in each.recipient and f"delivery {each.id}" in mail.text for mail in got)


async def test_a_mail_server_that_is_down_loses_and_doubles_nothing(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    sink.stop()
    monitor, beat = Monitor(redis, tmp_path, sink.url("ops@example.com")), Beat()
    async with monitor.up(), running([beat.loop]):
        for number in range(1, 6):
            await fail_a_build(redis, number)
        await until(monitor, lambda states: states.count("queued") == 5)
        first = min(await monitor.deliveries(), key=lambda each: each.created_at)
        while first.attempts < 3:
            await asyncio.sleep(0.05)
            [first] = await monitor.store.get([first.id])
        assert "Connection refused" in first.reason
        sink.start()
        got = await mails(sink, 5)
        await until(monitor, lambda states: states == ["delivered"] * 5)
    assert sorted(mail.subject.split()[2] for mail in got) == [f"notes-{number}" for number in range(1, 6)]
    assert beat.late_s < 0.9, f"another loop was {beat.late_s:.2f} s late"


async def test_a_mail_server_that_hangs_holds_up_neither_other_recipients_nor_other_loops(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    sink.stop()
    silent, beat = Silent(sink.port), Beat()
    with webhook() as (hook, requests):
        monitor = Monitor(redis, tmp_path, f"{sink.url('a@b.example,c@d.example')} {hook}", timeout_s=1.0)
        async with monitor.up(), running([beat.loop]):
            for number in range(1, 6):
                await fail_a_build(redis, number)
            started = time.monotonic()
            while len(requests) < 5:
                await asyncio.sleep(0.02)
            assert time.monotonic() - started < 10  # ten mails wait for a server that takes 1 s to fail
            await until(monitor, lambda states: states.count("sending") > 0)
            while not any("timed out" in each.reason for each in await monitor.deliveries()):
                await asyncio.sleep(0.05)
            silent.close()
            sink.start()
            got = await mails(sink, 10)
    assert len({(mail.to, mail.subject) for mail in got}) == 10
    assert len(requests) == 5
    assert beat.late_s < 0.9, f"another loop was {beat.late_s:.2f} s late"


async def test_what_happened_while_the_monitor_was_down_is_told_afterwards_once(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    async with Monitor(redis, tmp_path).up():
        await happen(
            redis,
            "release.live",
            id="notes-r9",
            environment="canary",
            commit=COMMIT,
            notify=[sink.url("team@example.com")],
        )
        while not await redis.exists("monitor:known"):
            await asyncio.sleep(0.02)
    await fail_a_build(redis)
    await happen(redis, "rollout.aborted", id="notes-r9", reason="health: instance notes-r9-1 is failed")
    await happen(redis, "release.rolled_back", id="notes-r9", environment="canary", reason="health", notify=[])
    for _ in range(2):
        async with Monitor(redis, tmp_path).up():
            got = await mails(sink, 2)
    aborted = next(mail for mail in got if "aborted" in mail.subject)
    assert aborted.to == "team@example.com"
    for words in ("health: instance notes-r9-1 is failed", COMMIT, "http://127.0.0.1:3004/apps/notes/rollout"):
        assert words in aborted.text
    assert any("build notes-17 failed" in mail.subject for mail in got)


async def test_a_delivery_that_was_being_sent_when_the_monitor_was_killed_is_sent_again_under_its_id(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    killed = Monitor(redis, tmp_path, sink.url("ops@example.com"))
    await fail_a_build(redis)
    await killed.parts.dispatcher.step()
    [queued] = await killed.deliveries()
    await killed.store.save(begun(queued, killed.clock()))

    async with Monitor(redis, tmp_path).up():
        [mail] = await mails(sink, 1)
    [delivery] = await killed.deliveries()
    assert (delivery.state, delivery.attempts, delivery.id) == (S.DELIVERED, 2, queued.id)
    assert f"delivery {queued.id}" in mail.text


async def test_groups_of_alerts_are_read_only_while_there_are_any(redis: Redis, tmp_path: Path) -> None:
    monitor = Monitor(redis, tmp_path)

    async def reads() -> int:
        for _ in range(3):
            await monitor.parts.dispatcher.step(block_ms=1)
        return int((await redis.info("commandstats")).get("cmdstat_hgetall", {}).get("calls", 0))

    before = await reads()
    assert await reads() == before
    fields = {"rule": "errors", "release": "notes-r9", "environment": "canary", "aborts": False}
    await happen(redis, "alert.firing", id="errors:notes-r9", reason="errors", **fields)
    begun = await reads()
    assert begun > before
    assert await reads() == begun + 3


async def test_an_event_that_is_read_or_settled_twice_makes_no_second_delivery(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    monitor = Monitor(redis, tmp_path, sink.url("ops@example.com"))
    await monitor.parts.dispatcher.step(block_ms=1)
    await fail_a_build(redis)
    reply = await redis.xreadgroup(GROUP, GROUP, {STREAM: ">"})  # its answer was lost on the way
    assert reply
    await monitor.parts.dispatcher.step(block_ms=1)
    deliveries = await monitor.deliveries()
    async with monitor.up():
        await mails(sink, 1)
        await monitor.store.settle(SendOutcome(deliveries=deliveries), "0-1")
        await monitor.parts.outbox.step()
        await mails(sink, 1)
    assert await redis.zcard("monitor:deliveries:due") == 0


async def test_a_delivery_is_given_up_in_the_end_and_stays_visible(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    with webhook() as (hook, requests):
        impatient = Patience(first_s=0.05, longest_s=0.05, give_up_s=0.3)
        monitor = Monitor(redis, tmp_path, f"{hook}/broken", patience=impatient)
        async with monitor.up():
            await fail_a_build(redis)
            await until(monitor, lambda states: states == ["failed"])
            tries = len(requests)
            await asyncio.sleep(0.3)
    [delivery] = await monitor.deliveries()
    assert tries == len(requests) == delivery.attempts > 1
    assert delivery.reason.startswith(f"given up after {tries} tries: ")
    assert "500" in delivery.reason
    assert delivery.recipient.endswith("/****")
    assert not any(secret in delivery.model_dump_json() for secret in ("s3cretpw", "hook-t0ken"))


async def test_a_webhook_gets_plain_text_and_the_delivery_s_id(redis: Redis, tmp_path: Path) -> None:
    with webhook() as (hook, requests):
        monitor = Monitor(redis, tmp_path, hook)
        async with monitor.up():
            await fail_a_build(redis)
            await until(monitor, lambda states: states == ["delivered"])
    [request], [delivery] = requests, await monitor.deliveries()
    assert request["headers"]["x-slipway-delivery"] == delivery.id
    assert request["body"]["title"].startswith("notes: build notes-17 failed")
    assert "assert '<b>' == 2" in request["body"]["message"] and "<p>" not in request["body"]["message"]


async def test_alerts_are_told_together_after_five_seconds_and_again_when_they_are_resolved(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    monitor = Monitor(redis, tmp_path, sink.url("ops@example.com"))

    async def alert(state: str, rule: str) -> None:
        fields = {"value": 0.95, "threshold": 0.9} if rule == "memory" else {}
        await happen(
            redis,
            f"alert.{state}",
            id=f"{rule}:notes-r9",
            rule=rule,
            release="notes-r9",
            environment="canary",
            reason=f"{rule} is {state}",
            **fields,
        )

    async with monitor.up():
        await happen(redis, "release.live", id="notes-r9", environment="canary", commit=COMMIT)
        for rule in ("memory", "cpu"):
            await alert("pending", rule)
            await alert("firing", rule)
        while len((await monitor.store.groups()).values()) != 1:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        assert sink.messages == []
        monitor.clock.ahead += timedelta(seconds=5)
        [mail] = await mails(sink, 1)
        assert mail.subject == "notes canary: notes-r9 firing: cpu, memory"
        for words in ("memory is firing (measured 0.95, limit 0.9)", "http://127.0.0.1:3002/alerts", COMMIT):
            assert words in mail.text

        await alert("resolved", "memory")
        await alert("gone", "cpu")
        await asyncio.sleep(0.3)
        monitor.clock.ahead += timedelta(minutes=5)
        resolved = (await mails(sink, 2))[1]
        assert resolved.subject == "notes canary: notes-r9 resolved: memory; over: cpu"
        assert await monitor.store.groups() == {}


async def test_a_muted_message_is_recorded_and_not_sent(redis: Redis, sink: MailSink, tmp_path: Path) -> None:
    monitor = Monitor(redis, tmp_path, sink.url("ops@example.com"))
    body = SilenceBody.model_validate({"app": "notes", "rule": None, "duration_s": 60, "reason": "we know"})
    await monitor.silences.put_silence(new_silence("silence-1", body, monitor.clock()), monitor.clock())
    async with monitor.up():
        await fail_a_build(redis)
        await fail_a_build(redis, 3, app="other")
        [mail] = await mails(sink, 1)
    assert mail.subject.startswith("other:")
    [other, muted] = await monitor.deliveries()
    assert (muted.app, muted.state, muted.reason) == ("notes", S.SILENCED, "silence silence-1: we know")
    assert other.state is S.DELIVERED


async def test_redis_that_is_killed_and_comes_back_loses_and_doubles_nothing(sink: MailSink, tmp_path: Path) -> None:
    with durable_redis(tmp_path / "redis") as server:
        monitor = Monitor(server.client, tmp_path, sink.url("ops@example.com"))
        async with monitor.up():
            for number in range(1, 31):
                await fail_a_build(server.client, number)
            await asyncio.to_thread(sink.wait_for, lambda messages: len(messages) >= 3)
            server.kill()
            assert len(sink.messages) < 30
            await asyncio.sleep(1.0)
            server.start()
            await mails(sink, 30, 20.0)
            await until(monitor, lambda states: states == ["delivered"] * 30)
        await server.client.aclose()
    assert len({mail.subject for mail in sink.messages}) == 30


async def test_an_event_with_nonsense_in_its_fields_stops_no_other(
    redis: Redis, tmp_path: Path, sink: MailSink
) -> None:
    monitor = Monitor(redis, tmp_path, sink.url("ops@example.com"))
    async with monitor.up():
        for kind in ("alert.firing", "alert.resolved", "release.live", "scaling.decided"):
            nonsense = {"environment": [], "release": {}, "rule": 7, "value": "much", "notify": ["\0"], "inputs": []}
            await happen(redis, kind, id="notes-r9", **nonsense)
        await fail_a_build(redis)
        await until(monitor, lambda states: "delivered" in states)
    assert (await redis.xpending(STREAM, GROUP))["pending"] == 0


async def test_the_end_of_an_alert_of_a_removed_app_is_told_to_whom_it_was_told(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    monitor = Monitor(redis, tmp_path)
    alert = {"id": "health:notes-r9", "release": "notes-r9", "rule": "health", "environment": "production"}
    async with monitor.up():
        where = {"environment": "production", "commit": COMMIT, "notify": [sink.url("team@example.com")]}
        await happen(redis, "release.live", id="notes-r9", **where)
        await happen(redis, "alert.firing", reason="instance notes-r9-1 is failed", **alert)
        await in_group(monitor, firing=True)
        monitor.clock.ahead += timedelta(minutes=6)
        [fired] = await mails(sink, 1)
        await RetentionStore(redis).forget(EnvironmentKey("notes", Environment.PRODUCTION))
        await happen(redis, "alert.gone", reason="the app notes was removed", **alert)
        await in_group(monitor, firing=False)
        monitor.clock.ahead += timedelta(minutes=6)
        await mails(sink, 2)
        monitor.clock.ahead += timedelta(hours=5)  # nothing is left to be told again
        [_, ended] = await mails(sink, 2)
    assert fired.subject == "notes production: notes-r9 firing: health: instance notes-r9-1 is failed"
    assert (ended.to, ended.subject) == ("team@example.com", "notes production: notes-r9 over: health")
    assert "the app notes was removed" in ended.text
    assert await monitor.store.groups() == {}


async def in_group(monitor: Monitor, *, firing: bool) -> None:
    """Waits until the group of alerts holds an alert in this state."""
    deadline = time.monotonic() + 10
    while not any(
        each.firing is firing for group in (await monitor.store.groups()).values() for each in group.alerts.values()
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_problem_of_the_platform_is_told_to_the_platforms_addresses_but_not_that_redis_was_away(
    redis: Redis, sink: MailSink, tmp_path: Path
) -> None:
    """The absence of Redis is told while it lasts and nothing can be stored; the stored event is not told again."""
    monitor = Monitor(redis, tmp_path, sink.url("ops@example.com"))
    async with monitor.up():
        for rule in ("redis", "disk"):
            about = {"app": "", "id": f"{rule}:platform", "rule": rule, "release": "", "service": ""}
            await happen(redis, "alert.firing", reason=f"{rule}: it is full", **about)
        await in_group(monitor, firing=True)
        monitor.clock.ahead += timedelta(minutes=6)
        [mail] = await mails(sink, 1)
    assert mail.subject == "the platform: firing: disk: disk: it is full"
    assert mail.text.startswith("disk fires since ")
