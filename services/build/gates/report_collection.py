"""Reads the reports that the manifest promises for a step, and adds up the reports of a build."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from services.build.gates.flaky import Suite
from services.build.reports.coverage import LineCount, read_coverage
from services.build.reports.junit import CaseCount, read_junit
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver, shown_path
from services.build.reports.report_file import StepStart, read_fresh
from services.build.reports.report_text import Unreadable
from services.build.reports.sarif import read_sarif
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
    files: dict[str, str] = field(default_factory=dict)
    """Path of each report that was read, by its kind."""

    def read(
        self, kind: str, data: bytes, not_before: datetime, mask: Callable[[str], str] = str, path: str = ""
    ) -> None:
        """Parses a `junit`, `coverage` or `sarif` report, the file `path`; `mask` masks secrets in its texts. Raises
        Unreadable.
        """
        self.files[kind] = path
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
    hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """Number of runs, by file of the commit and line. Of what several reports say of a line, the largest number."""
    other_hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """The same for files that are none of the commit's, as their report names them."""
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
            self._add_lines(reported.lines, reported.files.get("coverage", ""))
        if reported.findings is not None:
            self.reports_of_findings += 1
            names = {finding.offender.file for finding in reported.findings if finding.offender.file}
            files = self.paths.find_all(names, report=reported.files.get("sarif", ""))
            self.findings += [_resolved(finding, files) for finding in reported.findings]
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
        if counts := [*self.hits.items(), *self.other_hits.items()]:
            lines = sum(len(hits) for _, hits in counts)
            missed = [(file, hits, sorted(line for line, count in hits.items() if not count)) for file, hits in counts]
            worst = sorted((each for each in missed if each[2]), key=lambda each: -len(each[2]))
            covered = lines - sum(len(gaps) for _, _, gaps in missed)
            found["coverage"] = Measure(
                100 * covered / lines,
                offenders=tuple(
                    Offender(file=file, line=gaps[0], message=f"{len(gaps)} of {len(hits)} lines not covered")
                    for file, hits, gaps in worst
                ),
            )
        if self.reports_of_findings:
            offenders = tuple(finding.offender for finding in self.findings)
            found["findings"] = Measure(len(offenders), offenders=offenders, findings=tuple(self.findings))
        return found | {gate: Measure(None, reason) for gate, reason in self.unreadable.items()}

    def _add_lines(self, counted: LineCount, report: str) -> None:
        files = self.paths.find_all({name for name, _ in counted.hits}, counted.roots, report)
        for (name, line), count in counted.hits.items():
            file = files.get(name)
            known = self.other_hits.setdefault(shown_path(name), {}) if file is None else self.hits.setdefault(file, {})
            known[line] = max(count, known.get(line, 0))


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
                reported.read(kind, read_fresh(folder, path, start, committed), start.at, mask, path)
            except Unreadable as error:
                reported.refuse(kind, f"{path} {error}")
    return reported


def _resolved(finding: Finding, files: Mapping[str, str]) -> Finding:
    """Returns the finding with its file named as in the commit; unchanged if the commit has no such file."""
    file = files.get(finding.offender.file or "")
    return replace(finding, offender=finding.offender.model_copy(update={"file": file})) if file else finding
