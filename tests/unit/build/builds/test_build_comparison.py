"""Two builds side by side, and where the time of one went."""

from datetime import timedelta

from services.build.builds.build import StepRun
from services.build.builds.build_comparison import compare
from services.build.builds.timeline import timeline
from services.build.gates.gate import GateResult
from services.build.gates.report_record import BuildReport, FileCoverage, RecordedFinding, TestRun
from shared.manifest import Stage
from shared.models import BuildState
from tests.support.build.builds import AT, build


def step(name: str, start_s: float, seconds: float | None, state: str = "success") -> StepRun:
    start = AT + timedelta(seconds=start_s)
    end = None if seconds is None else start + timedelta(seconds=seconds)
    return StepRun.model_validate(
        {"name": name, "stage": Stage.TEST, "state": state, "started_at": start, "finished_at": end, "line": 4}
    )


def coverage_gate(figure: float | None) -> GateResult:
    return GateResult(name="coverage", passed=True, figure=figure, unit="%")


def ran(name: str, outcome: str) -> TestRun:
    return TestRun.model_validate({"step": "unit", "id": name, "outcome": outcome})


def test_gates_and_steps_have_before_now_and_change() -> None:
    before = build(1, gates=[coverage_gate(80)], steps=[step("unit", 0, 2), step("old", 2, 1)])
    after = build(2, gates=[coverage_gate(82.5)], steps=[step("unit", 0, 3), step("new", 3, None)])
    comparison = compare(before, after, None, None)
    assert (comparison.before, comparison.after, comparison.details_known) == ("notes-1", "notes-2", False)
    assert [(each.before, each.after, each.delta) for each in comparison.gates] == [(80, 82.5, 2.5)]
    assert [(each.name, each.before, each.after, each.delta) for each in comparison.steps] == [
        ("unit", 2, 3, 1),
        ("new", None, None, None),
        ("old", 1, None, None),
    ]


def test_tests_findings_and_files_that_changed() -> None:
    def at(line: int) -> RecordedFinding:
        return RecordedFinding(rule="ruff E1", file="a.py", line=line, message="bad")

    was = BuildReport(
        tests=[ran("breaks", "passed"), ran("mends", "failed"), ran("goes", "passed"), ran("stays", "failed")],
        findings=[at(3), RecordedFinding(rule="ruff E2", file="b.py", message="gone")],
        coverage=[
            FileCoverage(file="a.py", covered=[1], missed=[2]),
            FileCoverage(file="same.py", covered=[1], missed=[]),
        ],
    )
    now = BuildReport(
        tests=[ran("breaks", "failed"), ran("mends", "passed"), ran("comes", "failed"), ran("stays", "failed")],
        findings=[at(9), at(10)],
        coverage=[
            FileCoverage(file="a.py", covered=[1, 2], missed=[]),
            FileCoverage(file="same.py", covered=[7], missed=[]),
            FileCoverage(file="new.py", covered=[], missed=[1]),
        ],
    )
    comparison = compare(build(1), build(2), was, now)
    assert comparison.newly_failing == ["unit: breaks", "unit: comes"]
    assert (comparison.fixed, comparison.added, comparison.gone) == (["unit: mends"], ["unit: comes"], ["unit: goes"])
    assert [each.line for each in comparison.new_findings] == [10]  # the one that moved is none
    assert [each.rule for each in comparison.gone_findings] == ["ruff E2"]
    assert [(each.file, each.delta) for each in comparison.coverage] == [("a.py", 50), ("new.py", None)]


def test_lists_are_cut_and_counted() -> None:
    now = BuildReport(tests=[ran(f"t{n:03}", "failed") for n in range(150)])
    comparison = compare(build(1), build(2), BuildReport(), now)
    assert (len(comparison.newly_failing), comparison.counts["newly_failing"], comparison.counts["fixed"]) == (
        100,
        150,
        0,
    )


def test_a_timeline_tells_waiting_steps_side_by_side_and_deploy() -> None:
    whole = build(
        1,
        state=BuildState.SUCCESS,
        passed=True,
        started_at=AT + timedelta(seconds=2),
        steps=[step("one", 3, 3), step("two", 4, 1)],
        sealed_at=AT + timedelta(seconds=8),
        finished_at=AT + timedelta(seconds=10),
    )
    times = timeline(whole, AT)
    assert [(span.name, span.start_s, span.seconds) for span in times.spans] == [
        ("waiting in the queue", 0, 2),
        ("checkout and preparation", 2, 1),
        ("one", 3, 3),
        ("two", 4, 1),
        ("gates and artifact", 6, 2),
        ("deploy", 8, 2),
    ]
    assert (times.total_s, times.spans[2].from_percent, times.spans[2].width_percent) == (10, 30, 30)


def test_what_has_not_ended_lasts_until_now() -> None:
    queued = timeline(build(1), AT + timedelta(seconds=4))
    assert [(span.name, span.seconds, span.width_percent) for span in queued.spans] == [
        ("waiting in the queue", 4, 100)
    ]
    running = build(1, state=BuildState.RUNNING, started_at=AT, steps=[step("one", 0, None, "running")])
    assert timeline(running, AT + timedelta(seconds=5)).spans[-1].seconds == 5
    assert timeline(build(1), AT).total_s == 0
