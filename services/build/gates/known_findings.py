"""Makes gates ignore known findings: those that an app already had when a person turned on its setting `baseline`.
Pure. A finding is known by its fingerprint and its figure (such as a function's length), so a function that grows
counts again. A finding that disappears is no longer known: a passed build never knows more findings than the one before
it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.build.reports.metric import Finding, Measure

KNOWN_GATES = ("complexity", "function_length", "findings")  # secrets and failing tests are never known findings
Known = Mapping[str, Sequence[float]]  # fingerprint → figures, the largest first


class KnownFindings:
    """Holds the known findings, which do not count in one build. `before` holds fingerprint → figures of those that the
    last passed build knew. It is None if no build has passed since the app's setting `baseline` was turned on; then all
    findings of this build become known.
    """

    def __init__(self, before: Known | None) -> None:
        self.before = before
        self.is_first = before is None
        self.kept: dict[str, list[float]] = defaultdict(list)
        """Fingerprint → figures of this build's known findings; if the build passes, they do not count in later builds.
        """

    def without(self, gate: str, measure: Measure) -> Measure:
        """Returns the measure of a gate without those of its findings that are known, and adds these to `kept`. The
        findings must hold the text of their lines, of which their fingerprints are made.
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
