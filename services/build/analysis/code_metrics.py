"""Converts the output of analysis tools into the measures that gates judge. Pure."""

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.build.gates.gate import DEFAULTS, OFFENDERS_KEPT
from services.build.reports.metric import Finding, Measure, Offender
from shared.manifest import Gates

LeftOut = Mapping[str, tuple[str, str]]  # file → folder, file or pattern that excludes it, and who set that


def lizard_measures(
    output: str, folder: str, left_out: LeftOut | None = None, gates: Gates | None = None
) -> dict[str, Measure]:
    """Returns name of a gate → measure from `output`, the lines of JSON that `lizard_tool` printed. The measures are
    `complexity` (the highest cyclomatic complexity), `function_length` (the most lines of a function) and, if `gates`
    sets it, `comment_ratio`. A function above the default threshold, or above that in `gates` if it is lower, is a
    finding. If lizard failed on a file, no measure has a figure. `folder` is the prefix that is removed from each path;
    `left_out` holds, by path, what excludes a file and who set that. Raises ValueError or KeyError if `output` has
    another form.
    """
    rows = [json.loads(line) for line in output.splitlines()]
    unread = next((row for row in rows if isinstance(row, dict) and "unread" in row), None)
    if unread is not None:
        file = ascii(str(unread["unread"]).removeprefix(folder))
        reason = f"lizard, which counts the branches of functions, failed on {file} ({unread['error']})"
        return {gate: Measure(None, reason) for gate in ("complexity", "function_length", "comment_ratio")}
    without = [(left_out or {})[row["left_out"].removeprefix(folder)] for row in rows if "left_out" in row]
    functions = [
        (int(row[0]), int(row[1]), _shown(row[2], folder), int(row[3]), _shown(row[4]))
        for row in rows
        if isinstance(row, list)
    ]
    measures = {
        "complexity": _worst(
            "complexity", gates, [(value, file, line, name) for value, _, file, line, name in functions]
        ),
        "function_length": _worst(
            "function_length", gates, [(value, file, line, name) for _, value, file, line, name in functions]
        ),
    }
    if gates is not None and gates.comment_ratio is not None:
        counts = [row["comments"] for row in rows if "comments" in row]
        measures["comment_ratio"] = _comment_ratio([(said, code, _shown(path, folder)) for said, code, path in counts])
    return {gate: _without(measure, without) for gate, measure in measures.items()}


def _comment_ratio(files: Sequence[tuple[int, int, str]]) -> Measure:
    """Returns the lines with comments in percent of the lines of code; 100 without code. `files` holds (lines with
    comments, lines of code, path) of each file. The measure lists files with much code and few comments first.
    """
    code = sum(lines for _, lines, _ in files)
    worst = heapq.nlargest(OFFENDERS_KEPT, (each for each in files if each[1]), key=lambda each: each[1] - each[0])
    places = [Offender(file=file, message=f"{said} lines of comments, {lines} of code") for said, lines, file in worst]
    return Measure(100 * sum(said for said, _, _ in files) / code if code else 100, offenders=tuple(places))


def _without(measure: Measure, without: Sequence[tuple[str, str]]) -> Measure:
    """Returns `measure` with the excluded files in its remark and in its list `left_out`. `without` holds one pair for
    each of these files: the folder, file or pattern that excludes it, and who set that. The list has one entry for each
    different pair, the most frequent first.
    """
    if not without:
        return measure
    counted = Counter(without).most_common()
    listed = [f"{_shown(what)}: {_files(count)}, {by}" for (what, by), count in counted]
    first = _shown(counted[0][0][0])
    remark = f"left out: {_files(len(without))}, {first}{', …' if len(counted) > 1 else ''}"
    return replace(measure, reason=remark, left_out=tuple(listed))


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def secrets_measure(output: str, folder: str) -> Measure:
    """Returns the number of secrets that `detect-secrets scan` found, as a measure with their places but without their
    values. `folder` is the prefix that is removed from each path. Raises ValueError, KeyError or TypeError if `output`
    is not the JSON of detect-secrets.
    """
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


def _shown(text: object, folder: str = "") -> str:
    """Returns the text without the prefix `folder`, and with `?` for each character that UTF-8 cannot encode; file
    names may hold such characters.
    """
    return str(text).removeprefix(folder).encode(errors="replace").decode()


def _worst(gate: str, gates: Gates | None, figures: Sequence[tuple[int, str, int, str]]) -> Measure:
    """Returns the measure of `gate`, whose figure is the largest value of a function (0 without functions). `figures`
    holds (value, file, line, name) of each function. A function above the gate's default threshold, or above that in
    `gates` if it is lower, is a finding.
    """
    default = getattr(DEFAULTS, gate)
    bound = min(default, getattr(gates, gate, None) or default)
    above = sorted((each for each in figures if each[0] > bound), reverse=True)
    rest = max((each[0] for each in figures if each[0] <= bound), default=0)
    worst = heapq.nlargest(OFFENDERS_KEPT, figures)
    findings = tuple(Finding(f"lizard {gate}", _function_place(each), figure=each[0]) for each in above)
    return Measure(
        worst[0][0] if worst else 0, offenders=tuple(map(_function_place, worst)), findings=findings, rest=rest
    )


def _function_place(figure: tuple[int, str, int, str]) -> Offender:
    value, file, line, name = figure
    return Offender(file=file, line=line, message=f"{name} ({value})")
