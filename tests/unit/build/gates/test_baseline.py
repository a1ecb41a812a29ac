"""Comparing with an earlier build, on real git diffs."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from services.build.gates.baseline import Baseline, changed_coverage, changed_lines, fingerprints, new_findings
from services.build.git.repository import Repositories
from services.build.reports.metric import Finding, Measure, Offender


class History:
    """A repository of the platform's, and commits in it."""

    def __init__(self, folder: Path) -> None:
        self.repositories = Repositories(folder / "repositories", os.environ["PATH"])
        self.repositories.ensure("notes")
        self._work = folder / "work"
        self._work.mkdir()
        self._git("init", "--quiet")

    def commit(self, files: dict[str, str | bytes | None]) -> str:
        for name, content in files.items():
            path = self._work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self._git("add", "--all")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=change")
        self._git("push", "--quiet", "--force", str(self.repositories.path("notes")), "HEAD:dev")
        return self._git("rev-parse", "HEAD").strip()

    def changed(self, base: str | None, commit: str) -> dict[str, list[range]]:
        return changed_lines(self.repositories.diff("notes", base, commit))

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self._work, capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_changed_lines_are_those_of_the_newer_commit(history: History) -> None:
    base = history.commit({"a.py": "1\n2\n3\n4\n5", "gone.py": "x\n", "moved.py": "".join(f"{n}\n" for n in range(50))})
    changes: dict[str, str | bytes | None] = {
        "a.py": "1\ntwo\n3\n5\n6\n7",
        "gone.py": None,
        "moved.py": None,
        "lib/moved.py": "".join(f"{n}\n" for n in range(49)) + "fifty\n",
        "new.py": "1\n2\n",
        'sp ace "ü".py': "1\n",
    }
    commit = history.commit(changes)
    assert history.changed(base, commit) == {
        "a.py": [range(2, 3), range(4, 7)],
        "lib/moved.py": [range(50, 51)],
        "new.py": [range(1, 3)],
        'sp ace "ü".py': [range(1, 2)],
    }
    assert history.changed(commit, commit) == {}


def test_without_a_commit_to_compare_with_every_line_has_changed(history: History) -> None:
    commit = history.commit({"a.py": "1\n2\n"})
    assert history.changed(None, commit) == {"a.py": [range(1, 3)]}
    assert history.changed("f" * 40, commit) == {"a.py": [range(1, 3)]}, "it is gone: a forced push"


@pytest.mark.parametrize(
    "tricks",
    [
        {".gitattributes": "*.py -diff\n"},
        {".gitattributes": "*.py binary\n"},
        {"other.py": "++ b/a.py\n@@ -0,0 +1,9 @@\n"},
        {"other.py": "-- a/a.py\n++ /dev/null\n\\ No newline\n"},
    ],
)
def test_a_commit_cannot_hide_its_lines(history: History, tricks: dict[str, str | bytes | None]) -> None:
    base = history.commit({"a.py": "1\n"})
    commit = history.commit({**tricks, "a.py": b"1\n\0two\n"})
    changed = history.changed(base, commit)
    assert changed["a.py"] == [range(2, 3)]
    assert set(changed) == {"a.py", *tricks}


def test_a_line_that_looks_like_gits_own_hides_nothing_after_it(history: History) -> None:
    base = history.commit({"a.py": "1\n2\n3\n"})
    commit = history.commit({"a.py": "++ /dev/null\n1\n2\n3\n4\n"})
    assert history.changed(base, commit) == {"a.py": [range(1, 2), range(5, 6)]}


@pytest.mark.parametrize(
    ("changed", "figure", "reason", "offenders"),
    [
        ({"a.py": [range(1, 3)]}, 50, "of 2 lines changed since notes-1", ["a.py:2 1 of 2 changed lines not covered"]),
        ({"a.py": [range(1, 2)]}, 100, "of 1 lines changed since notes-1", []),
        (
            {"a.py": [range(9, 99)], "README.md": [range(1, 5)]},
            100,
            "no line that changed since notes-1 is coverable",
            [],
        ),
        ({}, 100, "no line that changed since notes-1 is coverable", []),
    ],
)
def test_coverage_of_changed_lines(
    changed: dict[str, list[range]], figure: float, reason: str, offenders: list[str]
) -> None:
    measure = changed_coverage({"a.py": {1: 3, 2: 0, 3: 0}}, changed, "since notes-1")
    assert (measure.figure, measure.reason) == (figure, reason)
    assert [str(each) for each in measure.offenders] == offenders


def test_a_report_about_other_files_is_no_good_news() -> None:
    measure = changed_coverage({}, {"a.py": [range(1, 3)]}, "since notes-1")
    assert (measure.figure, measure.reason) == (None, "the coverage report names no file of the commit")


@pytest.mark.parametrize(
    ("stranger", "changed", "figure"),
    [
        ("calc.py", "pkg/calc.py", None),  # relative to a subfolder
        ("notes/pkg/calc.py", "pkg/calc.py", None),  # relative to a folder above
        ("/app/pkg/calc.py", "pkg/calc.py", None),  # of a checkout elsewhere
        ("gen/calc.py", "pkg/calc.py", 100),
        ("node_modules/x/calc.js", "calc.js", 100),
        ("/usr/lib/python3/calc.py", "calc.py", 100),
        ("calc.py", "a.py", 100),  # the report names the changed file
    ],
)
def test_a_changed_file_that_the_report_may_name_otherwise_has_no_figure(
    stranger: str, changed: str, figure: float | None
) -> None:
    measure = changed_coverage({"a.py": {1: 3}}, {changed: [range(1, 3)]}, "since notes-1", [stranger])
    assert measure.figure == figure
    assert figure is not None or (stranger in measure.reason and changed in measure.reason)


def finding(line: int, text: str, rule: str = "ruff E1", file: str = "a.py") -> Finding:
    return Finding(rule, Offender(file=file, line=line, message=rule), text)


OLD = finding(3, "x = 1")
BASELINE = Baseline(build="notes-1", commit="c", findings=fingerprints([OLD, finding(9, "y = 1")]))


@pytest.mark.parametrize(
    ("found", "new"),
    [
        ([OLD], 0),
        ([finding(30, "    x =  1")], 0),  # moved, and indented
        ([OLD, finding(4, "x = 1")], 1),  # once more
        ([finding(3, "x = 2")], 1),
        ([finding(3, "x = 1", rule="ruff E2")], 1),
        ([finding(3, "x = 1", file="b.py")], 1),
        ([], 0),
    ],
)
def test_a_finding_is_known_by_rule_file_and_text(found: list[Finding], new: int) -> None:
    measure = new_findings(found, {}, BASELINE)
    assert (measure.figure, measure.reason) == (new, "against notes-1")
    assert len(measure.offenders) == new


def test_without_an_earlier_build_that_passed_all_findings_are_new_and_the_remedy_is_said() -> None:
    measure = new_findings([OLD], {}, None)
    assert measure.figure == 1
    assert "passes without this gate" in measure.reason


@pytest.mark.parametrize("gate", ["findings", "complexity", "function_length", "secrets"])
def test_findings_that_could_not_all_be_read_are_no_figure(gate: str) -> None:
    measure = new_findings([], {gate: Measure(None, "was cut off")}, BASELINE)
    assert (measure.figure, measure.reason) == (None, f"{gate}: was cut off")


def test_a_finding_takes_the_text_of_its_line() -> None:
    bare = replace(OLD, text="")
    assert bare.with_text(["a", "b", "x = 1"]).text == "x = 1"
    assert bare.with_text(["a"]).text == ""
