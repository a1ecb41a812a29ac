"""Services' answers to `/ready` become problems of the platform, each once."""

import pytest

from services.monitor.alerts.platform_problem import REDIS_ALERT, durations, problems_of
from shared.config import SERVICES
from shared.web.readiness import Readiness

WELL = Readiness(ready=True)


def unwell(**problems: str) -> Readiness:
    return Readiness(ready=False, problems={name.replace("_", " "): text for name, text in problems.items()})


def warned(**warnings: str) -> Readiness:
    return Readiness(ready=True, warnings={name.replace("_", " "): text for name, text in warnings.items()})


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"build": WELL, "flags": WELL}, {}),
        ({"build": "build does not answer: ConnectError"}, {"service:build": "build does not answer: ConnectError"}),
        (  # one thing, that two services need
            {"build": unwell(engine="it is away"), "deployer": unwell(engine="it is away")},
            {"engine:platform": "build, deployer: it is away"},
        ),
        (  # the same, measured a moment later
            {"build": unwell(disk="2.1 GiB left"), "deployer": unwell(disk="2.0 GiB left")},
            {"disk:platform": "build, deployer: 2.1 GiB left"},
        ),
        (
            {"build": unwell(disk="/a: 2 GiB left"), "deployer": unwell(disk="/b: 3 GiB left")},
            {"disk:platform": "build: /a: 2 GiB left; deployer: /b: 3 GiB left"},
        ),
        ({each: unwell(redis="away") for each in SERVICES}, {REDIS_ALERT: "all services: away"}),
        (
            {"proxy": warned(open_files="raise the limit", inotify="too few")},
            {"open-files:platform": "proxy: raise the limit", "inotify:platform": "proxy: too few"},
        ),
        ({"build": unwell(loop_expiry="a")}, {"loops:build": "build: a"}),
        (  # its loops fail because of Redis
            {"build": unwell(loop_heartbeat="a", redis="MISCONF")},
            {"redis:platform": "build: MISCONF"},
        ),
        (  # and the monitor cannot reach a deployer that says itself what it lacks, or nothing
            {"monitor": unwell(deployer="silent"), "deployer": unwell(engine="away")},
            {"engine:platform": "deployer: away"},
        ),
        (
            {"monitor": unwell(deployer="silent"), "deployer": "deployer does not answer"},
            {"service:deployer": "deployer does not answer"},
        ),
        (
            {"monitor": unwell(deployer="GET /stats answered 500"), "deployer": WELL},
            {"service:deployer": "monitor: GET /stats answered 500"},
        ),
    ],
)
def test_each_problem_is_one_alert(answers: dict[str, Readiness | str], expected: dict[str, str]) -> None:
    assert {each.alert: each.reason for each in problems_of(answers)} == expected


def test_a_service_may_take_longer_to_start_than_a_part_may_be_away() -> None:
    [service] = problems_of({"build": "away"})
    [engine] = problems_of({"build": unwell(engine="away")})
    assert (durations(service).for_s, durations(engine).for_s) == (30, 15)
