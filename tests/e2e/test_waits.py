"""A release that waits is replaced by the repair, or cancelled, and visitors of what is live notice nothing."""

from collections.abc import Callable

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE


@pytest.mark.smoke
def test_a_release_that_never_gets_ready_is_cancelled_or_gives_way_to_the_repair(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("waits")
    good = app.repository.commit("good")
    app.deliver(Environment.PRODUCTION)

    def broken(number: int) -> None:
        (app.repository.folder / "slipway.yml").write_text(
            f"app: waits\nrun: {{command: 'python app.py {number}', health: /nowhere}}\n"
        )
        app.repository.commit(f"broken {number}")

    with Load(app.production, rate=RATE, host=app.host, limit_s=90) as load, stack.api("build") as build:
        broken(1)
        waiting = app.repository.push("release")
        wait_for(lambda: "answered 404" in build.get("/builds/waits-2/log").text, "the release waits", 30)
        assert build.post("/builds/waits-2/cancel").status_code == 202
        assert "waits-2 cancelled: cancelled by hand" in waiting.finish().output
        assert app.latest_release(Environment.PRODUCTION)["state"] == "retired"
        assert app.sees(app.production, good)

        broken(2)
        waiting = app.repository.push("release")
        wait_for(lambda: "answered 404" in build.get("/builds/waits-3/log").text, "the release waits", 30)
        (app.repository.folder / "slipway.yml").write_text("app: waits\nrun: {command: python app.py, health: /up}\n")
        app.repository.commit("repair")
        app.deliver(Environment.PRODUCTION)
        assert "waits-3 superseded: superseded by waits-r4 before any of its" in waiting.finish().output
        assert build.post("/builds/waits-4/cancel").status_code == 409
    assert load.report().lost == 0, load.report().lines()
