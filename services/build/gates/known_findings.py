"""Leaves out of gates the findings that an app had when a person set `baseline` on it. Pure. A finding is known by its
fingerprint and its figure, so a function that grows counts again. A finding that disappears is no longer known: a
passed build never knows more findings than the one before it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.build.reports.metric import Finding, Measure

KNOWN_GATES = ("complexity", "function_length", "findings")  # secrets and failing tests are never known findings
Known = Mapping[str, Sequence[float]]  # fingerprint → figures, the largest first


class KnownFindings:
    """Holds the findings that do not count in one build. `before` holds those that the last passed build knew. None
    means that this is the first build, so that all of its findings become known.
    """

    def __init__(self, before: Known | None) -> None:
        self.before = before
        self.is_first = before is None
        self.kept: dict[str, list[float]] = defaultdict(list)
        """Figures of the findings that do not count in later builds, if this one passes, by fingerprint."""

    def without(self, gate: str, measure: Measure) -> Measure:
        """Returns the measure of a gate without those of its findings that are known. The findings must have their
        texts.
        """
        if gate not in KNOWN_GATES or measure.figure is None:
            return measure
        left = {name: list(figures) for name, figures in (self.before or {}).items()}
        unknown, known = list[Finding](), list[Finding]()
        for finding in sorted(measure.findings, key=lambda each: -each.figure):
            name = finding.fingerprint
            figures = [finding.figure] if self.is_first else left.get(name, [])
            if figures and finding.figure <= figures[0] and not finding.is_nameless:
                figures.pop(0)
                self.kept[name].append(finding.figure)
                known.append(finding)
            else:
                unknown.append(finding)
        if not known:
            return measure
        excused = {str(finding.offender) for finding in known}
        counted = [finding.offender for finding in unknown]
        others = [place for place in measure.offenders if str(place) not in excused and place not in counted]
        remark = f"{'1 known finding does' if len(known) == 1 else f'{len(known)} known findings do'} not count"
        return replace(
            measure,
            figure=len(unknown) if gate == "findings" else max([measure.rest, *(each.figure for each in unknown)]),
            reason="; ".join(filter(None, (remark, measure.reason))),
            offenders=(*counted, *others),
        )
