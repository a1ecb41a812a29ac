from datetime import timedelta

import pytest

from services.proxy.routes.deployer_liveness import DeployerLiveness, after_probe, paused_or_resumed
from services.proxy.routes.rollout import Rollout
from shared.proxy_models import RolloutState
from tests.support.proxy.routes import NOW


def after_probes(*answers: tuple[float, bool]) -> DeployerLiveness:
    """The liveness after probes at so many seconds, each answered or not."""
    liveness = DeployerLiveness(answered_at=NOW)
    for seconds, answered in answers:
        liveness = after_probe(liveness, answered, NOW + timedelta(seconds=seconds))
    return liveness


@pytest.mark.parametrize(
    ("answers", "seconds", "silent"),
    [
        ([(1, False), (2, False), (3, False)], 4.9, False),
        ([(1, False), (2, False), (3, False)], 5, True),
        ([(1, True), (2, False), (5, False)], 5.9, False),  # counted from the last answer
        ([(1, True), (2, False), (6, False)], 6, True),
        ([(1, False), (4.9, True), (6, False), (7, False)], 7, False),
        ([(3600, False)], 3600, False),  # one slow answer, or a machine that slept
    ],
)
def test_silence_is_five_seconds_and_more_than_one_question(
    answers: list[tuple[float, bool]], seconds: float, silent: bool
) -> None:
    assert after_probes(*answers).silent(NOW + timedelta(seconds=seconds)) is silent


@pytest.mark.parametrize(
    ("answers", "recovered"),
    [
        ([(1, True)], False),
        ([(1, True), (2, True)], False),
        ([(1, True), (2, True), (3, True)], True),
        ([(1, True), (2, False), (3, True)], False),
        ([(1, True), (2, True), (3, False)], False),
        ([], False),
    ],
)
def test_recovered_is_two_seconds_of_answers(answers: list[tuple[float, bool]], recovered: bool) -> None:
    assert after_probes(*answers).recovered is recovered


SILENT, RECOVERED = after_probes((1, False), (6, False)), after_probes((1, True), (6, True))
PROGRESSING = Rollout(release="notes-r2", at=NOW)
PAUSED = PROGRESSING.model_copy(update={"state": RolloutState.PAUSED})
OWN_PAUSE = PAUSED.model_copy(update={"resumes_by_itself": True})


@pytest.mark.parametrize(
    ("rollout", "liveness", "state"),
    [
        (PROGRESSING, SILENT, RolloutState.PAUSED),
        (PROGRESSING, RECOVERED, None),
        (PAUSED, RECOVERED, None),
        (PAUSED, SILENT, None),
        (OWN_PAUSE, RECOVERED, RolloutState.PROGRESSING),
        (OWN_PAUSE, SILENT, None),
        (OWN_PAUSE, after_probes((1, False), (6, True)), None),
        (PROGRESSING.model_copy(update={"state": RolloutState.ABORTED}), SILENT, None),
        (OWN_PAUSE.model_copy(update={"state": RolloutState.PROMOTED}), RECOVERED, None),
    ],
)
def test_only_what_silence_paused_goes_on(
    rollout: Rollout, liveness: DeployerLiveness, state: RolloutState | None
) -> None:
    now = NOW + timedelta(seconds=6)
    after = paused_or_resumed(rollout, liveness, now)
    if state is None:
        assert after is rollout
    else:
        assert (after.state, after.at, after.resumes_by_itself) == (state, now, state is RolloutState.PAUSED)


def test_the_reason_says_who_is_silent_and_for_how_long() -> None:
    now = NOW + timedelta(seconds=6)
    reason = paused_or_resumed(PROGRESSING, SILENT, now).reason
    assert reason == "the deployer does not answer: nothing for 6 s; the rollout goes on when it does"
    assert paused_or_resumed(OWN_PAUSE, RECOVERED, now).reason == "the deployer answers again"
