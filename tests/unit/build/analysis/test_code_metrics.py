import json

from services.build.analysis.code_metrics import lizard_measures, secrets_measure
from services.build.reports.metric import Offender


def test_the_worst_function_counts_and_is_named() -> None:
    rows = [
        json.dumps([complexity, length, "src/a.py", line, name])
        for name, complexity, length, line in (("f", 3, 40, 1), ("g", 9, 7, 50))
    ]
    measures = lizard_measures("\n".join(rows), "src/")
    assert (measures["complexity"].figure, measures["function_length"].figure) == (9, 40)
    assert measures["complexity"].offenders[0] == Offender(file="a.py", line=50, message="g (9)")
    assert measures["complexity"].findings == ()


def test_a_function_above_the_platforms_default_is_a_finding_whatever_the_app_allows() -> None:
    measures = lizard_measures(json.dumps([16, 80, "src/a.py", 1, "f"]), "src/")
    assert [finding.rule for finding in measures["complexity"].findings] == ["lizard complexity"]
    assert measures["function_length"].findings == ()


def test_a_file_on_which_the_tool_breaks_takes_the_figures_away_and_is_named() -> None:
    measures = lizard_measures(json.dumps({"unread": "src/a\udcff.py", "error": "IndexError"}), "src/")
    assert {measure.figure for measure in measures.values()} == {None}
    assert "failed on 'a\\udcff.py' (IndexError)" in measures["complexity"].reason


def test_secrets_are_counted_and_only_their_places_named() -> None:
    output = '{"results": {"src/a.py": [{"type": "AWS Access Key", "line_number": 3, "hashed_secret": "abc"}]}}'
    measure = secrets_measure(output, "src/")
    key = Offender(file="a.py", line=3, message="AWS Access Key")
    assert (measure.figure, measure.offenders) == (1, (key,))
