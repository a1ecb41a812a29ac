from collections.abc import Sequence

import pytest

from services.build.gates.known_findings import KnownFindings
from services.build.reports.metric import Finding, Measure, Offender


def functions(*figures: float, rest: float = 9, text: str = "def f") -> Measure:
    """Functions of which every line is the same text, as for methods of one name in a file."""
    places = [Offender(file="a.py", line=line, message=f"f ({figure:g})") for line, figure in enumerate(figures, 1)]
    findings = [
        Finding("lizard complexity", place, text, figure) for place, figure in zip(places, figures, strict=True)
    ]
    small = Offender(file="a.py", line=99, message=f"g ({rest:g})")
    worst = sorted(findings, key=lambda each: -each.figure)
    places = [*(each.offender for each in worst), small]
    return Measure(max(rest, *figures), "left out: x", tuple(places), tuple(findings), rest)


def known(*figures: float) -> dict[str, Sequence[float]]:
    first = KnownFindings(None)
    first.without("complexity", functions(*figures))
    return dict(first.kept)


def test_all_that_the_first_has_is_known() -> None:
    first = KnownFindings(None)
    measure = first.without("complexity", functions(20, 30))
    assert (measure.figure, measure.reason) == (9, "2 known findings do not count; left out: x")
    assert [place.line for place in measure.offenders] == [99]
    assert list(first.kept.values()) == [[30, 20]]
    assert len(measure.findings) == 2, "later builds compare with them"


@pytest.mark.parametrize(
    ("before", "now", "figure", "kept"),
    [
        ([20], [20], 9, [20]),
        ([20], [18], 9, [18]),
        ([20], [21], 21, []),
        ([20], [20, 20], 20, [20]),
        ([20, 30], [30, 25], 25, [30]),
        ([20, 30], [31, 20], 31, [20]),
        ([20, 30], [16], 9, [16]),
        ([30, 20], [30, 20], 9, [30, 20]),
    ],
)
def test_a_known_finding_may_shrink_and_neither_grow_nor_multiply(
    before: list[float], now: list[float], figure: float, kept: list[float]
) -> None:
    findings = KnownFindings(known(*before))
    assert findings.without("complexity", functions(*now)).figure == figure
    assert [each for figures in findings.kept.values() for each in figures] == kept


def test_another_function_of_the_same_figure_is_not_known() -> None:
    findings = KnownFindings(known(20))
    measure = findings.without("complexity", functions(20, text="def other"))
    assert (measure.figure, [place.line for place in measure.offenders]) == (20, [1, 99])
    assert findings.kept == {}


def test_findings_of_reports_are_counted_without_the_known() -> None:
    def measure(*rules: str) -> Measure:
        found = tuple(
            Finding(rule, Offender(file="a.py", line=line, message=rule), "x = 1") for line, rule in enumerate(rules)
        )
        return Measure(len(found), offenders=tuple(each.offender for each in found), findings=found)

    first = KnownFindings(None)
    assert first.without("findings", measure("t E1", "t E1", "t E2")).figure == 0
    later = KnownFindings(dict(first.kept))
    counted = later.without("findings", measure("t E1", "t E1", "t E1", "t E3"))
    assert (counted.figure, sum(len(each) for each in later.kept.values())) == (2, 2)


def test_a_nameless_finding_is_never_known() -> None:
    nameless = Finding("t ", Offender(file="a.py", line=1), "x", is_nameless=True)
    assert KnownFindings(None).without("findings", Measure(1, findings=(nameless,))).figure == 1


@pytest.mark.parametrize("gate", ["secrets", "test_failures", "coverage", "new_findings"])
def test_secrets_and_tests_are_never_known(gate: str) -> None:
    assert KnownFindings(None).without(gate, functions(20)) == functions(20)


def test_a_missing_figure_stays_missing() -> None:
    assert KnownFindings(None).without("complexity", Measure(None, "broke")) == Measure(None, "broke")
