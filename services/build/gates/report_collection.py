"""Reads the reports that the manifest promises for a step, and adds up the reports of a build."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from services.build.gates.flaky import Suite
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report import CaseCount, LineCount, Unreadable, read_coverage, read_junit, read_sarif
from services.build.reports.report_file import StepStart, read_fresh
from shared.manifest import Reports

GATE_OF_REPORT = {"junit": "test_failures", "coverage": "coverage", "sarif": "findings"}


@dataclass
class Reported:
    """Holds the parsed reports of one run of a step."""

    cases: CaseCount | None = None
    lines: LineCount | None = None
    findings: tuple[Finding, ...] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    """Gate → reason why the report that it needs was refused."""

    def read(self, kind: str, data: bytes, not_before: datetime, mask: Callable[[str], str] = str) -> None:
        """Parses a report of the kind `junit`, `coverage` or `sarif` and stores its content in this object; `mask`
        masks secrets in its texts. Raises Unreadable if the report must be refused.
        """
        if kind == "junit":
            self.cases = read_junit(data, not_before, mask)
        elif kind == "coverage":
            self.lines = read_coverage(data, not_before)
        else:
            self.findings = read_sarif(data, mask)

    def refuse(self, kind: str, reason: str) -> None:
        self.unreadable[GATE_OF_REPORT[kind]] = reason


@dataclass
class Collected:
    """Adds up the reports of one build. A gate whose report is unreadable in any step has no figure."""

    paths: PathResolver = field(default_factory=PathResolver)
    tests: int = 0
    suites: list[Suite] = field(default_factory=list)
    lines: int = 0
    covered: int = 0
    uncovered: list[tuple[int, Offender]] = field(default_factory=list)
    hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """Number of runs, by file of the commit and line."""
    findings: list[Finding] = field(default_factory=list)
    reports_of_findings: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, reported: Reported, suite: Suite | None = None) -> None:
        """Adds the reports of a step to those of the build. `suite` is the result of judging the step's tests; None
        without a test report.
        """
        if reported.cases is not None and suite is not None:
            self.tests += reported.cases.ran
            self.suites.append(suite)
        if reported.lines is not None:
            self._add_lines(reported.lines)
        if reported.findings is not None:
            self.reports_of_findings += 1
            self.findings += [_resolved(finding, self.paths) for finding in reported.findings]
        for gate, reason in reported.unreadable.items():
            self.unreadable.setdefault(gate, reason)

    def measures(self) -> dict[str, Measure]:
        """Returns gate → measure for the gates of which a step has written a report; without a figure if a report was
        unreadable.
        """
        found: dict[str, Measure] = {}
        if self.suites:
            failing = tuple(offender for suite in self.suites for offender in suite.offenders)
            remarks = "; ".join(suite.remark for suite in self.suites if suite.remark)
            found["test_failures"] = Measure(sum(suite.failures for suite in self.suites), remarks, failing)
        if self.lines:
            worst = sorted(self.uncovered, key=lambda each: -each[0])
            found["coverage"] = Measure(
                100 * self.covered / self.lines, offenders=tuple(offender for _, offender in worst)
            )
        if self.reports_of_findings:
            offenders = tuple(finding.offender for finding in self.findings)
            found["findings"] = Measure(len(offenders), offenders=offenders, findings=tuple(self.findings))
        return found | {gate: Measure(None, reason) for gate, reason in self.unreadable.items()}

    def _add_lines(self, counted: LineCount) -> None:
        self.lines += counted.lines
        self.covered += counted.covered
        files: dict[str, dict[int, int]] = {}
        for (name, line), count in counted.hits.items():
            files.setdefault(name, {})[line] = count
        for name, hits in files.items():
            file = self.paths.find(name, counted.roots)
            missed = sorted(line for line, count in hits.items() if count == 0)
            if missed:
                message = f"{len(missed)} of {len(hits)} lines not covered"
                self.uncovered.append((len(missed), Offender(file=file or name, line=missed[0], message=message)))
            if file is not None:
                known = self.hits.setdefault(file, {})
                known.update({line: max(count, known.get(line, 0)) for line, count in hits.items()})


def collect(
    reports: Reports, folder: Path, start: StepStart, committed: Collection[str], mask: Callable[[str], str] = str
) -> Reported:
    """Reads the reports that the step wrote in `folder` after `start`; the reason for refusing one is in the result's
    `unreadable`. `committed` holds the blob ids of the commit's files, copies of which are refused; `mask` masks
    secrets in texts.
    """
    reported = Reported()
    for kind, path in reports:
        if path is not None:
            try:
                reported.read(kind, read_fresh(folder, path, start, committed), start.at, mask)
            except Unreadable as error:
                reported.refuse(kind, f"{path} {error}")
    return reported


def _resolved(finding: Finding, paths: PathResolver) -> Finding:
    """Returns the finding with the path that its file has in the commit; unchanged if the commit has no such file."""
    file = paths.find(finding.offender.file or "")
    return replace(finding, offender=finding.offender.model_copy(update={"file": file})) if file else finding
