"""Reads the reports that a step writes to the paths in the manifest, and adds up the reports of a build."""

import contextlib
import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from services.build.gates.flaky import Suite
from services.build.reports.coverage import LineCount, check_lines, read_coverage
from services.build.reports.junit import CaseCount, merged_cases, read_junit
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver, shown_path
from services.build.reports.report_file import LARGEST_IN_ALL_BYTES, StepStart, find, read_fresh
from services.build.reports.report_text import Unreadable
from services.build.reports.sarif import read_sarif
from services.build.system.path_glob import is_glob
from shared.manifest import Reports

GATE_OF_REPORT = {"junit": "test_failures", "coverage": "coverage", "sarif": "findings"}


@dataclass
class Reported:
    """Holds the parsed reports of one run of a step."""

    cases: CaseCount | None = None
    lines: list[tuple[str, LineCount]] = field(default_factory=list)
    """(path, counts of lines) of each coverage report."""
    findings: list[tuple[str, tuple[Finding, ...]]] = field(default_factory=list)
    """(path, findings) of each SARIF report."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Gate → reason why a report that the gate needs was refused."""
    working: Sequence[str] = ()
    """Folders in which the step's commands work, since file names in the step's reports may be relative to them."""

    def read(
        self,
        kind: str,
        files: Iterable[tuple[str, bytes]],
        not_before: datetime,
        mask: Callable[[str], str] = str,
    ) -> None:
        """Reads and adds the reports of one kind (`junit`, `coverage` or `sarif`). `files` yields path and content of
        each; `mask` masks secrets in texts. Raises Unreadable if one of them cannot be read or is older than
        `not_before`, or if all together hold no test that ran, or no coverable line.
        """
        counts, names = [], []
        for path, data in files:
            names.append(path)
            with _named(path):
                if kind == "junit":
                    counts.append(read_junit(data, not_before, mask))
                elif kind == "coverage":
                    self.lines.append((path, read_coverage(data, not_before)))
                else:
                    self.findings.append((path, read_sarif(data, mask)))
        with _named(names[0] if len(names) == 1 else f"each of {len(names)} files, {names[0]} to {names[-1]},"):
            if kind == "junit":
                self.cases = merged_cases(counts)
            elif kind == "coverage":
                check_lines(counted for _, counted in self.lines)

    def refuse(self, kind: str, reason: str) -> None:
        self.unreadable[GATE_OF_REPORT[kind]] = reason


@dataclass
class Collected:
    """Adds up the reports of one build. A gate whose report is unreadable in any step has no figure."""

    paths: PathResolver = field(default_factory=PathResolver)
    tests: int = 0
    suites: list[Suite] = field(default_factory=list)
    hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """File of the commit → line → number of runs. If several reports name a line, the largest number counts."""
    other_hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """Name in a report → line → number of runs, for the names that mean no file of the commit."""
    findings: list[Finding] = field(default_factory=list)
    reports_of_findings: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, reported: Reported, suite: Suite | None = None) -> None:
        """Adds the reports of a step to those of the build. `suite` is the verdict on the step's tests; None if it
        wrote no test report.
        """
        if reported.cases is not None and suite is not None:
            self.tests += reported.cases.ran
            self.suites.append(suite)
        for path, counted in reported.lines:
            self._add_lines(counted, path, reported.working)
        for path, findings in reported.findings:
            self.reports_of_findings += 1
            names = {finding.offender.file for finding in findings if finding.offender.file}
            files = self.paths.find_all(names, report=path, working=reported.working)
            self.findings += [_resolved(finding, files) for finding in findings]
        for gate, reason in reported.unreadable.items():
            self.unreadable.setdefault(gate, reason)

    def measures(self) -> dict[str, Measure]:
        """Returns gate → measure, for each gate for which a step has written a report. A measure has no figure if a
        report was unreadable.
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

    def _add_lines(self, counted: LineCount, report: str, working: Sequence[str]) -> None:
        files = self.paths.find_all({name for name, _ in counted.hits}, counted.roots, report, working)
        for (name, line), count in counted.hits.items():
            file = files.get(name)
            known = self.other_hits.setdefault(shown_path(name), {}) if file is None else self.hits.setdefault(file, {})
            known[line] = max(count, known.get(line, 0))


def collect(
    reports: Reports, folder: Path, start: StepStart, committed: Collection[str], mask: Callable[[str], str] = str
) -> Reported:
    """Returns the reports that the step wrote in `folder` after `start`, parsed. `reports` holds their paths and globs,
    as the manifest names them. If one is refused, the reason is in `unreadable` of the result. `committed` holds the
    blob ids of the commit's files; copies of these files are refused. `mask` masks secrets in texts.
    """
    reported = Reported()
    for kind, patterns in reports.by_kind().items():
        try:
            reported.read(kind, _fresh(patterns, folder, start, committed), start.at, mask)
        except Unreadable as error:
            reported.refuse(kind, str(error))
    return reported


def _fresh(
    patterns: Sequence[str], folder: Path, start: StepStart, committed: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yields path and content of each report, each once, in the order of `patterns`. Raises Unreadable if one is
    missing, older than `start` or too large.
    """
    seen, size = set[str](), 0
    for pattern in patterns:
        with _named(pattern):
            paths = find(folder, pattern, start) if is_glob(pattern) else [posixpath.normpath(pattern)]
        for path in paths:
            if path not in seen:
                with _named(path):
                    data = read_fresh(folder, path, start, committed)
                    size += len(data)
                    if size > LARGEST_IN_ALL_BYTES:
                        most = LARGEST_IN_ALL_BYTES // 2**20
                        raise Unreadable(f"and the reports before it are larger than {most} MiB; split the step")
                seen.add(path)
                yield path, data


@contextlib.contextmanager
def _named(subject: str) -> Iterator[None]:
    """Puts `subject` before the message of an Unreadable that the block raises."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{subject} {error}") from error


def _resolved(finding: Finding, files: Mapping[str, str]) -> Finding:
    """Returns the finding with the path that its file has in the commit; unchanged if the commit has no such file."""
    file = files.get(finding.offender.file or "")
    return replace(finding, offender=finding.offender.model_copy(update={"file": file})) if file else finding
