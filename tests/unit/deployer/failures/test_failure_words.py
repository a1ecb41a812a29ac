"""Tests what people read of an instance that failed."""

import pytest

from services.deployer.failures.failure_words import failure_reason, output_excerpt
from shared.manifest import Run

ADDRESS = "127.0.0.1:21250"
UNHEARD = f"not ready within 60 s: GET /up: nothing listens on {ADDRESS}"
RUN = Run(command="python app.py")
RAN = "it ran `python app.py`"


@pytest.mark.parametrize(
    ("listening", "words"),
    [
        (["127.0.0.1:8000"], "$PORT 21250; it listens on 127.0.0.1:8000: let the app listen on $PORT"),
        ([], "$PORT 21250; the app listens on no port at all"),
        (None, "$PORT 21250"),
        (
            ["127.0.0.1:21250"],
            "$PORT 21250 where the platform reaches it; it listens on 127.0.0.1:21250: let the app listen on "
            "0.0.0.0:21250",
        ),
    ],
)
def test_it_says_where_an_app_listens_instead(listening: list[str] | None, words: str) -> None:
    said = failure_reason(UNHEARD, ADDRESS, RUN, listening)
    assert said == f"not ready within 60 s: GET /up: nothing listens on {words}; {RAN}"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (RUN, RAN),
        (Run(), "it ran the command of its image"),
        (
            Run(command="python app.py", command_from="app.py"),
            f"{RAN}, inferred from app.py; if that is wrong, write run.command in slipway.yml",
        ),
    ],
)
def test_it_says_what_was_run_and_what_that_was_inferred_from(run: Run, words: str) -> None:
    assert failure_reason("it ended with exit code 3", ADDRESS, run, None) == f"it ended with exit code 3; {words}"


def test_an_app_in_a_container_has_to_listen_for_others() -> None:
    address = "172.20.0.9:8000"
    said = failure_reason(f"not ready within 60 s: nothing listens on {address}", address, RUN, ["[::1]:80"])
    assert "it listens on [::1]:80: let the app listen on 0.0.0.0:$PORT" in said


def test_an_app_that_ends_well_is_told_to_run_on() -> None:
    said = failure_reason("it ended with exit code 0", "", RUN, None)
    assert said == f"it ended with exit code 0, but an app has to run on, and to listen on $PORT; {RAN}"


def test_what_has_nothing_to_do_with_the_command_is_left_as_it_is() -> None:
    for reason in ("killed: out of memory at its limit of 64 MiB", "not in the route within 60 s: Envoy gets 400"):
        assert failure_reason(reason, ADDRESS, RUN, ["127.0.0.1:21250"]) == reason


PROBES = [
    '127.0.0.1 - - [29/Nov/2026 17:04:23] "GET /up HTTP/1.1" 503 -',
    'INFO:     127.0.0.1:40000 - "GET /up HTTP/1.1" 404 Not Found',
    "GET /up 404 1.2 ms - 143",
    '127.0.0.1 - - [29/Nov/2026:17:04:23 +0000] "GET /up?x HTTP/1.1" 200 0 "-" "slipway"',
    '10.0.0.2 - - [29/Nov/2026:17:04:23 +0000] "GET /other HTTP/1.1" 400 150 "-" "Envoy/HC"',
]


def test_the_platforms_own_probes_are_left_out() -> None:
    own = ["listening", 'GET /upload HTTP/1.1" 200', "ValueError: GET /up is not configured", "deploying slipway app"]
    assert output_excerpt([own[0], *PROBES, *own[1:]], "/up") == own


def test_the_first_and_the_last_lines_are_kept() -> None:
    lines = [f"line {number}" for number in range(1, 31)]
    assert output_excerpt(lines[:20], "/up") == lines[:20]
    assert output_excerpt(lines, "/up") == [*lines[:5], "... 10 lines are left out ...", *lines[-15:]]
