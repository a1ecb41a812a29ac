"""Assembles the report of a build for its pages: tests, coverage by line, findings. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import Field

from services.build.gates.report_collection import Collected, Reported
from services.build.reports.metric import Measure
from services.build.reports.test_case import Case
from shared.models import View

Item = TypeVar("Item")


@dataclass(frozen=True)
class Bounds:
    """Holds the largest numbers of tests, findings, files and lines that the record of one build's reports may have."""

    tests: int = 20_000
    output_bytes: int = 4 * 2**20
    """Largest size of the output of all tests together, in bytes."""
    findings: int = 5_000
    files: int = 5_000
    lines: int = 500_000
    """Largest number of coverable lines of all files together."""


class TestRun(View):
    """Records the outcome of one test in one step."""

    __test__ = False  # not a test class of pytest

    step: str
    id: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float | None = None
    message: str = ""
    output: str = Field("", description="Failure text and printed output of a test that failed.")


class FileCoverage(View):
    """Records the numbers of a file's coverable lines: those that ran in the build's tests, and those that did not."""

    file: str
    covered: list[int]
    missed: list[int]

    @property
    def percent(self) -> float:
        return 100 * len(self.covered) / (len(self.covered) + len(self.missed))


class RecordedFinding(View):
    """Records one finding of a tool, and its place in the commit."""

    rule: str = Field(description="Name of the tool and its rule.")
    file: str | None = None
    line: int | None = None
    message: str = ""


class BuildReport(View):
    """Holds the content of a build's reports: tests, coverage and findings."""

    tests: list[TestRun] = Field([])
    coverage: list[FileCoverage] = Field([])
    findings: list[RecordedFinding] = Field([])
    cut: list[str] = Field(
        [], description="Descriptions of what was left out because of its size; empty if the record is whole."
    )


class ReportRecorder:
    """Gathers the content of a build's reports while the steps run. `mask` masks secrets in its texts; `bounds` limits
    its size.
    """

    def __init__(self, mask: Callable[[str], str] = str, bounds: Bounds | None = None) -> None:
        self._mask = mask
        self._bounds = bounds or Bounds()
        self._collected = Collected()
        self._measures: Mapping[str, Measure] = {}
        self.begun = False
        self._cases: list[tuple[str, Case]] = []

    def begin(self, collected: Collected, measures: Mapping[str, Measure]) -> None:
        """Sets the sources of the report: the added-up reports of the steps, and gate → measure. Both may grow until
        `report` is called.
        """
        self._collected, self._measures, self.begun = collected, measures, True

    def ran(self, step: str, reported: Reported) -> None:
        if reported.cases is not None:
            self._cases += [(step, case) for case in reported.cases.cases]

    def report(self) -> BuildReport:
        cut: list[str] = []
        found = [
            finding for name, measure in self._measures.items() if name != "findings" for finding in measure.findings
        ]
        findings = [
            RecordedFinding(
                rule=self._mask(finding.rule.strip()),
                file=finding.offender.file and self._mask(finding.offender.file),
                line=finding.offender.line,
                message=self._mask(finding.offender.message),
            )
            for finding in [*self._collected.findings, *found]
        ]
        return BuildReport(
            tests=self._tests(cut),
            coverage=self._coverage(cut),
            findings=_first(findings, self._bounds.findings, "findings", cut),
            cut=cut,
        )

    def _tests(self, cut: list[str]) -> list[TestRun]:
        """Returns the tests within the limits, failed ones first. Appends to `cut` a description of what was left
        out.
        """
        rank = {"failed": 0, "passed": 1, "skipped": 2}
        ordered = sorted(self._cases, key=lambda each: rank[each[1].outcome])
        kept, left, dropped = [], self._bounds.output_bytes, 0
        for step, case in _first(ordered, self._bounds.tests, "tests", cut):
            run = TestRun(step=step, **vars(case))
            left -= len(run.output.encode(errors="replace"))
            if left < 0 and run.output:
                run, dropped = run.model_copy(update={"output": ""}), dropped + 1
            kept.append(run)
        if dropped:
            cut.append(f"the output of {dropped} tests: more than {self._bounds.output_bytes // 2**20} MiB in all")
        return kept

    def _coverage(self, cut: list[str]) -> list[FileCoverage]:
        files = [
            FileCoverage(
                file=file,
                covered=sorted(line for line, count in hits.items() if count),
                missed=sorted(line for line, count in hits.items() if not count),
            )
            for file, hits in self._collected.hits.items()
            if hits
        ]
        files.sort(key=lambda each: (-len(each.missed), each.file))
        kept: list[FileCoverage] = []
        lines = 0
        for each in _first(files, self._bounds.files, "files of coverage", cut):
            lines += len(each.covered) + len(each.missed)
            if lines > self._bounds.lines:
                cut.append(f"{len(files) - len(kept)} files of coverage: more than {self._bounds.lines} lines in all")
                break
            kept.append(each)
        return kept


def _first(items: Iterable[Item], most: int, what: str, cut: list[str]) -> list[Item]:
    every = list(items)
    if len(every) > most:
        cut.append(f"{len(every) - most} of {len(every)} {what}")
    return every[:most]
