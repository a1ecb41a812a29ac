"""From reports and tools' output to figures; what could not be read takes the figure away."""

from datetime import UTC, datetime

from services.build.measures import Collected, lizard_measures, secrets_measure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JUNIT = b'<testsuite tests="2"><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
LCOV = b"SF:a.py\nDA:1,1\nDA:2,0\nend_of_record\n"
SARIF = b'{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [{"message": {"text": "x"}}]}]}'


def figures(collected: Collected) -> dict[str, float | None]:
    return {name: measure.figure for name, measure in collected.measures().items()}


def test_reports_of_several_steps_add_up() -> None:
    collected = Collected()
    for _ in range(2):
        collected.add("test_failures", JUNIT, NOW)
        collected.add("coverage", LCOV, NOW)
        collected.add("findings", SARIF, NOW)
    assert figures(collected) == {"test_failures": 2, "coverage": 50, "findings": 2}


def test_what_no_step_reported_has_no_measure_and_one_bad_report_takes_the_figure_of_all() -> None:
    collected = Collected()
    assert figures(collected) == {}
    collected.add("coverage", LCOV, NOW)
    collected.refuse("coverage", "reports/coverage.xml was not written by its step")
    assert collected.measures()["coverage"].figure is None
    assert "not written" in collected.measures()["coverage"].reason


def test_the_worst_function_counts_and_is_named() -> None:
    rows = [
        f'5,{complexity},9,1,{length},"f@1-9@src/a.py","src/a.py","{name}","{name}( x )",{line},9'
        for name, complexity, length, line in (("f", 3, 40, 1), ("g", 9, 7, 50))
    ]
    measures = lizard_measures("\n".join(rows), "src/")
    assert (measures["complexity"].figure, measures["function_length"].figure) == (9, 40)
    assert measures["complexity"].offenders[0] == "a.py:50 g (9)"


def test_secrets_are_counted_and_only_their_places_named() -> None:
    output = '{"results": {"src/a.py": [{"type": "AWS Access Key", "line_number": 3, "hashed_secret": "abc"}]}}'
    measure = secrets_measure(output, "src/")
    assert (measure.figure, measure.offenders) == (1, ("a.py:3 AWS Access Key",))
