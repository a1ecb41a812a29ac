import pytest

from services.build.gates.gate import AT_LEAST, NOT_REPORTED, GateResult, effective, judge
from services.build.gates.remedy import with_remedies
from services.build.reports.metric import Measure
from shared.manifest import Gates

NOTHING = Gates()


def remedy(
    name: str, figure: float | None, own: Gates = NOTHING, asked: Gates = NOTHING, reason: str = NOT_REPORTED
) -> str:
    threshold = getattr(effective(own, asked, tested=True), name)
    [result] = with_remedies([judge(name, threshold, Measure(figure, reason))], "notes", own, asked)
    return result.remedy


def test_the_remedy_of_the_platforms_default_is_in_the_code_or_one_call() -> None:
    assert remedy("complexity", 24) == (
        'split the function; leave out what is vendored or generated: PUT /apps/notes {"exclude": ["<folder>/"]}; '
        'or allow more: PUT /apps/notes {"gates": {"complexity": 24}}'
    )


def test_the_call_keeps_the_minimum_gates_that_the_app_has() -> None:
    own = Gates(coverage=70.5, complexity=20)
    assert 'PUT /apps/notes {"gates": {"coverage": 70.5, "complexity": 24}}' in remedy("complexity", 24, own)
    assert 'PUT /apps/notes {"gates": {"coverage": 69.99, "complexity": 20}}' in remedy("coverage", 69.999, own)


def test_a_threshold_of_the_manifest_is_changed_in_the_manifest() -> None:
    asked = Gates(complexity=5)
    assert remedy("complexity", 9, asked=asked).endswith("or allow more: `complexity: 9` under `gates` in slipway.yml")
    both = 'PUT /apps/notes {"gates": {"complexity": 24}} and `complexity: 24` under `gates` in slipway.yml'
    assert remedy("complexity", 24, asked=asked).endswith(both)


def test_a_secret_is_put_elsewhere() -> None:
    said = remedy("secrets", 2)
    assert 'PATCH /apps/notes/environments/production {"secrets": {"NAME": "…"}} of the deployer' in said
    assert 'PUT /apps/notes/secrets/NAME {"value": "…"}' in said
    assert said.endswith('where it is no secret, allow it: PUT /apps/notes {"gates": {"secrets": 2}}')


@pytest.mark.parametrize("name", Gates.model_fields)
def test_every_gate_that_fails_has_a_remedy(name: str) -> None:
    worst = 1.0 if name in AT_LEAST else 1000.0
    asked = Gates.model_validate({name: 50})
    assert remedy(name, worst, asked=asked)


def test_a_gate_without_a_figure_says_which_report_it_needs() -> None:
    asked = Gates(changed_coverage=5)
    assert "`reports: {coverage: …}`" in remedy("changed_coverage", None, asked=asked)
    said = remedy("changed_coverage", None, asked=asked, reason="j.xml holds no line")
    assert said == "let a step of this build write a coverage report without that fault"
    assert 'leave it out if it is vendored or generated: PUT /apps/notes {"exclude": ["<file>"]}' in remedy(
        "complexity", None, reason="lizard cannot read a.py"
    )


def test_a_gate_that_passes_or_has_no_number_needs_none() -> None:
    steps = GateResult(name="steps", passed=False, reason="test exited with 1")
    assert with_remedies([steps], "notes", NOTHING, NOTHING) == [steps]
    assert remedy("complexity", 3) == ""
