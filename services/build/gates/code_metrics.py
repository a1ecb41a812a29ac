"""Turns reports and the tools' answers into the measures that gates judge. Pure."""

import csv
import heapq
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.build.gates.flaky import Suite
from services.build.gates.gate import DEFAULTS, OFFENDERS_KEPT
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report import CaseCount, LineCount, read_coverage, read_junit, read_sarif

GATE_OF_REPORT = {"junit": "test_failures", "coverage": "coverage", "sarif": "findings"}


@dataclass
class Reported:
    """Holds what the reports of one run of a step say."""

    cases: CaseCount | None = None
    lines: LineCount | None = None
    findings: tuple[Finding, ...] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    """Gate → why a promised report does not count."""

    def read(self, kind: str, data: bytes, not_before: datetime, mask: Callable[[str], str] = str) -> None:
        """Parses a report of the kind `junit`, `coverage` or `sarif`; names and messages go through `mask`. Raises
        Unreadable."""
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
    """Adds up the reports of one build. One unreadable report takes its gate's figure away."""

    places: PathResolver = field(default_factory=PathResolver)
    tests: int = 0
    suites: list[Suite] = field(default_factory=list)
    lines: int = 0
    covered: int = 0
    uncovered: list[tuple[int, Offender]] = field(default_factory=list)
    hits: dict[str, dict[int, int]] = field(default_factory=dict)
    """File of the commit → line → number of runs."""
    findings: list[Finding] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, reported: Reported, suite: Suite | None = None) -> None:
        """Adds the reports of a step. `suite` is the result of its tests; None if it reported none."""
        if reported.cases is not None and suite is not None:
            self.tests += reported.cases.ran
            self.suites.append(suite)
            self.seen.add("test_failures")
        if reported.lines is not None:
            self._add_lines(reported.lines)
            self.seen.add("coverage")
        if reported.findings is not None:
            self.findings += [_placed(finding, self.places) for finding in reported.findings]
            self.seen.add("findings")
        for gate, reason in reported.unreadable.items():
            self.unreadable.setdefault(gate, reason)

    def measures(self) -> dict[str, Measure]:
        """Returns the measure of each gate that a report was read or refused for; other gates have none."""
        found: dict[str, Measure] = {}
        if "test_failures" in self.seen:
            failing = tuple(place for suite in self.suites for place in suite.places)
            remarks = "; ".join(suite.remark for suite in self.suites if suite.remark)
            found["test_failures"] = Measure(sum(suite.failures for suite in self.suites), remarks, failing)
        if "coverage" in self.seen:
            worst = sorted(self.uncovered, key=lambda each: -each[0])
            found["coverage"] = Measure(100 * self.covered / self.lines, offenders=tuple(place for _, place in worst))
        if "findings" in self.seen:
            places = tuple(finding.offender for finding in self.findings)
            found["findings"] = Measure(len(places), offenders=places, findings=tuple(self.findings))
        return found | {gate: Measure(None, reason) for gate, reason in self.unreadable.items()}

    def _add_lines(self, counted: LineCount) -> None:
        self.lines += counted.lines
        self.covered += counted.covered
        files: dict[str, dict[int, int]] = {}
        for (name, line), count in counted.hits.items():
            files.setdefault(name, {})[line] = count
        for name, hits in files.items():
            file = self.places.find(name, counted.roots)
            missed = sorted(line for line, count in hits.items() if count == 0)
            if missed:
                message = f"{len(missed)} of {len(hits)} lines not covered"
                self.uncovered.append((len(missed), Offender(file=file or name, line=missed[0], message=message)))
            if file is not None:
                known = self.hits.setdefault(file, {})
                known.update({line: max(count, known.get(line, 0)) for line, count in hits.items()})


def lizard_measures(output: str, folder: str) -> dict[str, Measure]:
    """Returns the worst function by cyclomatic complexity and by length in lines, from `lizard --csv`. Functions above
    the platform's default are findings. Raises ValueError."""
    rows = (row for row in csv.reader(io.StringIO(output)) if row)
    # Columns: lines of code, complexity, tokens, parameters, length, location, file, function, long name, start, end.
    functions = [(int(row[1]), int(row[4]), row[6].removeprefix(folder), int(row[9]), row[7]) for row in rows]
    return {
        "complexity": _worst("complexity", [(value, file, line, name) for value, _, file, line, name in functions]),
        "function_length": _worst(
            "function_length", [(value, file, line, name) for _, value, file, line, name in functions]
        ),
    }


def secrets_measure(output: str, folder: str) -> Measure:
    """Returns the secrets found by `detect-secrets scan`: their places, never their values. Raises ValueError, KeyError
    or TypeError."""
    results: Mapping[str, Sequence[Mapping[str, object]]] = json.loads(output)["results"]
    found = [
        Finding(
            f"secrets {hit['type']}",
            Offender(file=file.removeprefix(folder), line=int(str(hit["line_number"])), message=str(hit["type"])),
        )
        for file, hits in results.items()
        for hit in hits
    ]
    return Measure(len(found), offenders=tuple(finding.offender for finding in found), findings=tuple(found))


def _worst(gate: str, figures: Sequence[tuple[int, str, int, str]]) -> Measure:
    """Returns the largest figure as the measure; 0 without any function. `figures` holds value, file, line and name of
    each function, of which there may be 10^5."""
    above = sorted((each for each in figures if each[0] > getattr(DEFAULTS, gate)), reverse=True)
    worst = heapq.nlargest(OFFENDERS_KEPT, figures)
    findings = tuple(Finding(f"lizard {gate}", _function_place(each)) for each in above)
    return Measure(worst[0][0] if worst else 0, offenders=tuple(map(_function_place, worst)), findings=findings)


def _function_place(figure: tuple[int, str, int, str]) -> Offender:
    value, file, line, name = figure
    return Offender(file=file, line=line, message=f"{name} ({value})")


def _placed(finding: Finding, places: PathResolver) -> Finding:
    """Returns the finding with its file named as in the commit, if the commit has it."""
    file = places.find(finding.offender.file or "")
    return replace(finding, offender=finding.offender.model_copy(update={"file": file})) if file else finding
