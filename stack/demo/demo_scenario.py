"""Defines the demo's steps from push to production; a client outside the stack measures each."""

import time
from collections.abc import Callable
from typing import Any

from shared.models import Environment
from stack.clients.delivery import NOTES, Deployable, RequestRefused, indented
from stack.clients.load import Load
from stack.clients.mail_sink import MailSink
from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for, wait_for_commit

APP = "slipway-demo"
FLAG = "set-message"
NEW_VISITORS = 3_000
SHARE_TOLERANCE = 0.035  # four standard deviations of 3 000 draws
BAD_CANARY_RATE = 60.0
MIB = 2**20
MEMORY, FULL_SHARE, BITE_MB = 64 * MIB, 0.88, 4
MEMORY_RATE = 100.0
TEAM = "team@example.com"


class StepFailed(Exception):
    """Reports that a step failed; the text says what was seen instead of the expected result."""


class DemoScenario:
    """Holds the demo's steps. `steps` returns them in order. Each is a function that returns a text with its
    measurement, or raises an exception.
    """

    def __init__(self, app: Deployable, mail: MailSink) -> None:
        self._app = app
        self._mail = mail
        self._repository = app.repository
        self._production = ""  # commit that visitors of production must get
        self._good = ""  # newest commit without a fault
        self._version = 0

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("production live", self.production),
            ("canary live", self.canary),
            (f"{NEW_VISITORS} new visitors", self.share),
            ("a flag switched", self.flag),
            ("a commit with a failing test", self.failing_test),
            ("mail about it", lambda: self._mailed("the build", "test_that_fails")),
            ("a canary that answers 500", self.bad_canary),
            ("mail about it", lambda: self._mailed("the abort", "aborted", "to the canary failed")),
            ("a promotion", self.promotion),
            ("memory runs full", self.memory),
        ]

    def production(self) -> str:
        self._repository.copy_from(NOTES)
        manifest = f"app: {self._app.app}\nnotify: ['{self._mail.url(TEAM)}']"
        self._repository.replace("slipway.yml", "app: notes", manifest)
        self._commit_new_version()
        delivery = self._app.deliver(Environment.PRODUCTION)
        self._production = delivery.commit
        times = f"{delivery.push_s:.1f} s after the push, {delivery.release_s:.1f} s after the gates"
        return f"{times}: {self._app.address(self._app.production)}"

    def canary(self) -> str:
        self._commit_new_version()
        delivery = self._app.deliver(Environment.CANARY)
        self._production_is_untouched()
        return f"{delivery.push_s:.1f} s after the push: {self._app.address(self._app.canary)}"

    def share(self) -> str:
        app = self._app
        weight = app.rollout()["weight"] / 100
        wait_for(lambda: probe(app.public, "/version", app.host).track == "canary", "a visitor of the canary", 10)
        seen = tracks_of_new_visitors(app.public, NEW_VISITORS, host=app.host)
        share = seen["canary"] / NEW_VISITORS
        measured = (
            f"{share:.1%} got the canary, {weight:.0%} are set, {seen['lost']} requests lost: {app.address(app.public)}"
        )
        if seen["lost"] or seen["canary"] + seen["stable"] != NEW_VISITORS or abs(share - weight) > SHARE_TOLERANCE:
            raise StepFailed(f"{measured}; {dict(seen)}")
        return measured

    def flag(self) -> str:
        app = self._app
        path, off = f"/flags/{FLAG}", {"defaultVariant": "off"}
        if any(flag["key"] == FLAG for flag in app.call("flags", "GET", "/flags")["items"]):
            app.call("flags", "PATCH", path, off)
        else:
            app.call("flags", "PUT", path, {"state": "ENABLED", "variants": {"on": True, "off": False}, **off})
        wait_for(lambda: self._set_answers() == 403, "/set refused while the flag is off", 5)
        app.call("flags", "PATCH", path, {"defaultVariant": "on"})
        seconds = wait_for(lambda: self._set_answers() == 200, "/set allowed with the flag on", 5)
        note = probe(app.production, "/get", app.host).body.strip()
        if note != "hello":
            raise StepFailed(f"/set/hello was allowed, but /get says {note!r}")
        return f"/set/hello: 403 before, 200 {seconds * 1000:.0f} ms after; no deploy"

    def failing_test(self) -> str:
        tests = self._repository.folder / "tests" / "test_notes.py"
        tests.write_text(tests.read_text() + "\n\ndef test_that_fails() -> None:\n    assert False\n")
        commit = self._repository.commit("a failing test")
        pushed = self._repository.push("release").finish()
        self._repository.go_back_to(self._good)
        build = self._build_of(commit)
        if build["state"] != "failure" or build.get("passed"):
            raise StepFailed(f"the build is {build['state']}\n{indented(pushed)}")
        self._production_is_untouched()
        return f"stopped: {build['reason']}; production untouched"

    def bad_canary(self) -> str:
        app = self._app
        self._repository.replace("notes.py", "FAIL_SHARE = 0.0", "FAIL_SHARE = 1.0")
        self._repository.commit("answers 500")
        with Load(app.public, rate=BAD_CANARY_RATE, host=app.host) as load:
            push = self._repository.push("dev")

            def failing() -> bool:
                return any(result.status == 500 and result.track == "canary" for result in load.results)

            wait_for(lambda: failing() or push.ended, "the first 500 of the canary", 60)
            try:
                wait_for(failing, "a visitor whom the canary answers", 5)
            except TimeoutError as error:
                raise StepFailed(f"{error}\n{indented(push.finish())}") from error
            wait_for(lambda: app.rollout()["state"] == "aborted", "the rollout aborted", 30)
            time.sleep(0.5)
        push.finish()
        self._repository.go_back_to(self._good)
        bad = [result for result in load.results if result.track == "canary" and result.status == 500]
        others = [result for result in load.results if result.lost and result not in bad]
        if others:
            raise StepFailed(f"{len(others)} requests of others were lost, the first: {others[0].lost}")
        seen = tracks_of_new_visitors(app.public, 300, host=app.host)
        if seen != {"stable": 300}:
            raise StepFailed(f"after the abort new visitors got {dict(seen)}")
        seconds = max(result.due for result in bad) - min(result.done for result in bad)
        return f"share 0 after {seconds:.1f} s: {app.rollout()['reason']}"

    def promotion(self) -> str:
        app = self._app
        self._commit_new_version()
        delivery = app.deliver(Environment.CANARY)
        app.rollout("promote", release=delivery.release)
        seconds = wait_for_commit(app.production, delivery.commit, host=app.host)
        self._production = delivery.commit
        return f"production has the canary's commit {seconds:.1f} s after the call"

    def memory(self) -> str:
        """Fills production's only instance to 88 % of its 64 MiB. The platform then doubles its limit."""
        app = self._app
        before = self._instance()
        if before["memory_limit"] != MEMORY:
            app.call("deployer", "PATCH", f"/apps/{app.app}/environments/production", {"memory": MEMORY})
            wait_for(lambda: self._instance()["memory_limit"] == MEMORY, "the limit at 64 MiB again", 30)
        with Load(app.public, rate=MEMORY_RATE, host=app.host) as load:
            while (used := self._instance()["working_set"]) < FULL_SHARE * MEMORY:
                bite = min(BITE_MB, FULL_SHARE * MEMORY / MIB - used / MIB + 0.5)
                probe(app.production, f"/eat?mb={max(1, round(bite))}", app.host)
                time.sleep(0.1)
            full = self._instance()
            seconds = wait_for(lambda: self._instance()["memory_limit"] == 2 * MEMORY, "the limit doubled", 30)
            time.sleep(1)
        after = self._instance()
        if (after["id"], after["oom_kills"]) != (full["id"], full["oom_kills"]):
            raise StepFailed(f"{full['id']} did not live on: {after}")
        if lost := load.report().lost:
            raise StepFailed(f"{lost} requests were lost: {load.report().reasons}")
        mailed = self._mailed("the doubling", "64 → 128 MiB")
        return (
            f"64 → 128 MiB {seconds:.1f} s after {full['working_set'] / MIB:.0f} were used, 0 requests lost; {mailed}"
        )

    def _instance(self) -> dict[str, Any]:
        """Returns the counters of production's ready instance. Raises StepFailed if there is none."""
        for stats in self._app.call("deployer", "GET", "/stats")["items"]:
            if (stats["app"], stats["environment"], stats["state"]) == (self._app.app, "production", "ready"):
                found: dict[str, Any] = stats
                return found
        raise StepFailed("production has no instance that is ready")

    def _mailed(self, what: str, *words: str) -> str:
        """Waits for a mail that contains all `words`, and returns the demo's text about its delay. If the mail does not
        come, raises StepFailed with the state of the monitor's last message.
        """

        def arrived() -> bool:
            return any(all(word in f"{mail.subject}\n{mail.text}" for word in words) for mail in self._mail.messages)

        try:
            seconds = wait_for(arrived, f"mail about {what}", 20)
        except TimeoutError as error:
            last = self._app.call("monitor", "GET", "/deliveries?limit=1")["items"]
            raise StepFailed(f"{error}; {last[0]['state']}: {last[0]['reason']}" if last else str(error)) from error
        return f"mail to {TEAM} {'at once' if seconds < 0.1 else f'after {seconds:.1f} s more'}"

    def _commit_new_version(self) -> None:
        old, new = f'VERSION = "1.{self._version}"', f'VERSION = "1.{self._version + 1}"'
        self._repository.replace("notes.py", old, new)
        self._version += 1
        self._good = self._repository.commit(new)

    def _set_answers(self) -> int:
        return probe(self._app.production, "/set/hello", self._app.host).status

    def _production_is_untouched(self) -> None:
        seen = probe(self._app.production, "/version", self._app.host)
        if seen.commit != self._production:
            raise StepFailed(f"production answers {seen.status} with {seen.commit[:8]}, not {self._production[:8]}")

    def _build_of(self, commit: str) -> dict[str, Any]:
        for build in self._app.call("build", "GET", f"/apps/{self._app.app}/builds")["items"]:
            if build["commit"] == commit:
                found: dict[str, Any] = build
                return found
        raise RequestRefused(f"no build of {commit[:8]}")
