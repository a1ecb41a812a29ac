"""The branches of apps that may have changed are read again, and of one other app at a time."""

from services.build.git.ref_stamp import RefStamp
from services.build.triggers.ref_watch import READ_AGAIN_S, AppState, RefWatch


def state(version: int = 1, record: str | None = "{}") -> AppState:
    return AppState(RefStamp((("packed-refs", version, 1, 1),)), record)


def watch_of(*apps: str, now_s: float = 0.0) -> RefWatch:
    """Each app was read when it was in the state `state()`, one second after the other."""
    watch = RefWatch()
    for place, app in enumerate(apps):
        watch.was_read(app, state(), now_s + place)
    return watch


def test_an_app_that_was_never_read_is_due() -> None:
    assert RefWatch().due({"notes": state()}, 0) == ["notes"]


def test_an_app_is_due_until_it_was_read_in_its_state() -> None:
    watch = watch_of("notes", "other")
    states = {"notes": state(), "other": state(2)}
    assert watch.due(states, 1) == watch.due(states, 2) == ["other"]
    watch.was_read("other", state(2), 3)
    assert watch.due(states, 4) == []


def test_another_record_or_none_makes_an_app_due() -> None:
    watch = watch_of("notes", "other")
    assert watch.due({"notes": state(record='{"branches": {}}'), "other": state(record=None)}, 1) == ["notes", "other"]


def test_an_app_without_a_stamp_is_due_each_time() -> None:
    watch = RefWatch()
    watch.was_read("notes", state(), 0)
    for now_s in (1, 2):
        assert watch.due({"notes": AppState(None, "{}")}, now_s) == ["notes"]


def test_of_the_unchanged_ones_one_at_a_time_is_read_again() -> None:
    watch = watch_of("a", "b", "c")
    states = {app: state() for app in "abc"}
    assert watch.due(states, READ_AGAIN_S - 1) == []
    assert watch.due(states, READ_AGAIN_S + 1) == ["a"]
    watch.was_read("a", state(), READ_AGAIN_S + 1)
    assert watch.due(states, READ_AGAIN_S + 4) == ["b"]


def test_an_app_that_comes_again_is_due() -> None:
    watch = watch_of("notes")
    assert watch.due({}, 1) == []
    assert watch.due({"notes": state()}, 2) == ["notes"]
