"""Turns reports and the tools' answers into the measures that gates judge. Pure."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.build.gate import Measure
from services.build.report import read_coverage, read_junit, read_sarif


@dataclass
class Collected:
    """What the reports of one build add up to. One unreadable report takes its gate's figure away."""

    tests: int = 0
    failures: int = 0
    failed: list[str] = field(default_factory=list)
    lines: int = 0
    covered: int = 0
    findings: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, gate: str, data: bytes, not_before: datetime) -> None:
        """Counts one report. Raises Unreadable."""
        if gate == "test_failures":
            cases = read_junit(data, not_before)
            self.tests += cases.ran
            self.failures += cases.failures
            self.failed += cases.failed
        elif gate == "coverage":
            lines = read_coverage(data, not_before)
            self.lines += lines.lines
            self.covered += lines.covered
        else:
            self.findings += read_sarif(data).places
        self.seen.add(gate)

    def refuse(self, gate: str, reason: str) -> None:
        """A report that was promised for this gate does not count."""
        self.unreadable.setdefault(gate, reason)

    def measures(self) -> dict[str, Measure]:
        """Gates whose reports were reached; the others have no measure."""
        found: dict[str, Measure] = {}
        if "test_failures" in self.seen:
            found["test_failures"] = Measure(self.failures, offenders=tuple(self.failed))
        if "coverage" in self.seen:
            found["coverage"] = Measure(100 * self.covered / self.lines)
        if "findings" in self.seen:
            found["findings"] = Measure(len(self.findings), offenders=tuple(self.findings))
        return found | {gate: Measure(None, reason) for gate, reason in self.unreadable.items()}


def lizard_measures(output: str, folder: str) -> dict[str, Measure]:
    """From `lizard --csv`: the worst function by cyclomatic complexity and by length in lines. Raises ValueError."""
    rows = [row for row in csv.reader(io.StringIO(output)) if row]
    # Columns: lines of code, complexity, tokens, parameters, length, location, file, function, long name, start, end.
    functions = [(int(row[1]), int(row[4]), f"{row[6].removeprefix(folder)}:{row[9]} {row[7]}") for row in rows]
    return {
        "complexity": _worst([(complexity, place) for complexity, _, place in functions]),
        "function_length": _worst([(length, place) for _, length, place in functions]),
    }


def secrets_measure(output: str, folder: str) -> Measure:
    """From `detect-secrets scan`. Names the places, never the secret. Raises ValueError, KeyError or TypeError."""
    places = [
        f"{file.removeprefix(folder)}:{hit['line_number']} {hit['type']}"
        for file, hits in json.loads(output)["results"].items()
        for hit in hits
    ]
    return Measure(len(places), offenders=tuple(places))


def _worst(figures: Sequence[tuple[int, str]]) -> Measure:
    """No function at all counts as 0."""
    ordered = sorted(figures, reverse=True)
    return Measure(ordered[0][0] if ordered else 0, offenders=tuple(f"{place} ({value})" for value, place in ordered))
