"""Judges the canary of one rollout by its requests and production's."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue, TypeAdapter

from services.monitor.analysis.effects import Effect, effects
from services.monitor.analysis.gate_tests import failed_test
from services.monitor.analysis.lanes.error_lane import ErrorBets
from services.monitor.analysis.lanes.histogram import Buckets
from services.monitor.analysis.lanes.lane import Lane
from services.monitor.analysis.lanes.latency_lane import TAILS, LatencyBets, ReferenceHistogram
from services.monitor.analysis.lanes.margins import LaneName, Margins
from services.monitor.analysis.report import report
from services.monitor.analysis.sections import Sections
from services.monitor.analysis.state import VERSION, JudgeState, PreparedBets
from services.monitor.analysis.strata import Strata
from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.analysis.window import JudgedWindow, TrackWindow
from shared.models import Track

ODDS = (2.0, 5.0, 20.0, 200.0)
GROSS_PAIRS = ((0.02, 0.5), (0.02, 0.95))
CLIENT_ODDS = (1.5, 2.0, 5.0, 20.0)
SLOWER_ODDS = (1.3, 1.8, 3.0, 8.0)
MUCH_SLOWER_ODDS = (3.0, 8.0, 30.0)
PREPARED_FOR_S = 20.0
NOTHING = TrackWindow()

_STATE: TypeAdapter[JudgeState] = TypeAdapter(JudgeState)


class Judge:
    """Judges the canary of one rollout: compares its errors and latencies with production's. The judge has no clock and
    does no input or output: the caller adds the windows (the requests of a few seconds) in their order. `dump` and
    `restored` carry the judge's state over a restart.
    """

    def __init__(self, le_ms: Sequence[float | None], margins: Margins = Margins()) -> None:  # noqa: B008 it is frozen
        """Takes the upper bounds of the latency buckets in ms, ascending; the last one is None. All windows of a
        rollout have the same buckets. `margins` says which harm counts.
        """
        self.margins = margins
        self.le_ms = tuple(le_ms)
        self._buckets = Buckets(le_ms)
        self._errors: dict[LaneName, ErrorBets] = {
            "errors": ErrorBets(margins.errors.handicap, ODDS),
            "gross errors": ErrorBets(margins.gross_errors.handicap, ODDS, GROSS_PAIRS),
        }
        self._client_errors = ErrorBets(margins.client_errors.handicap, CLIENT_ODDS)
        self._latency: dict[LaneName, LatencyBets] = {
            "latency": LatencyBets(self._buckets, margins.latency.handicap, SLOWER_ODDS, TAILS),
            "gross latency": LatencyBets(self._buckets, margins.gross_latency.handicap, MUCH_SLOWER_ODDS),
        }
        self._state = JudgeState(
            le_ms=list(le_ms),
            lanes={name: Lane.of(bets, margins.of(name)) for name, bets in self._bets().items()},
            reference=ReferenceHistogram.empty(len(self._buckets)),
            strata=Strata(len(self._buckets)),
        )

    def _bets(self) -> dict[LaneName, int]:
        return {
            "gross errors": len(self._errors["gross errors"]),
            "errors": len(self._errors["errors"]),
            "outage": 1,
            "client errors": len(self._client_errors),
            "gross latency": len(self._latency["gross latency"]),
            "latency": len(self._latency["latency"]),
        }

    @property
    def failed(self) -> bool:
        """Returns True if the canary has failed, which is final. It costs nothing, unlike `verdict()`."""
        return self._state.failure is not None

    def add(self, window: JudgedWindow) -> None:
        """Adds the requests of the next window, and fails the canary if harm is certain now. Raises ValueError if the
        window has other latency buckets than the judge.
        """
        canary, stable = window.tracks.get(Track.CANARY, NOTHING), window.tracks.get(Track.STABLE, NOTHING)
        mine, others = self._timed(canary), self._timed(stable)
        if self.failed:
            return
        state, began_s = self._state, window.at_s - window.seconds
        state.at_s = window.at_s
        failing = {}
        for track, figures in ((Track.CANARY, canary), (Track.STABLE, stable)):
            state.visitors.seen[track].take(figures.visitors)
            failing[track] = state.visitors.failing[track].take(figures.failing_visitors)
        state.visitors.count(canary.requests + stable.requests)
        if canary.requests and state.first_canary_s is None:
            state.first_canary_s = began_s
        first = state.first_canary_s
        if window.warming or first is None or began_s < first + self.margins.warm_up_s:
            judged, judged_others = dict[int, int](), dict[int, int]()
        else:
            judged, judged_others = mine, others
        share = state.share.add(window.step, window.weight, canary.requests, stable.requests)
        self._bet_on_errors(canary, stable, share, window.seconds)
        self._bet_on_latency(judged, judged_others, share, window)
        state.reference.add(others, window.seconds)
        stratum = state.strata.at(window.step, began_s)
        stratum.canary.count(canary, failing[Track.CANARY], judged)
        stratum.stable.count(stable, failing[Track.STABLE], judged_others)
        stratum.expected_errors += share * (canary.errors + stable.errors)
        stratum.expected_failing += share * sum(failing.values())
        self._look()

    def _timed(self, track: TrackWindow) -> dict[int, int]:
        """Returns bucket → requests, for the track's latency buckets that are not empty."""
        if track.latency and len(track.latency) != len(self._buckets):
            raise ValueError(f"{len(track.latency)} latency buckets, not {len(self._buckets)}")
        return {bucket: count for bucket, count in enumerate(track.latency) if count}

    def _bet_on_errors(self, canary: TrackWindow, stable: TrackWindow, share: float, seconds: float) -> None:
        if not canary.requests and not stable.requests:
            for name in ("errors", "gross errors", "outage", "client errors"):
                self._rest(name, seconds)
            return
        for name, bets in self._errors.items():
            ratios = bets.log_ratios(share, canary.requests, canary.errors, stable.requests, stable.errors)
            self._grow(name, ratios, seconds)
        client = canary.client_errors, stable.client_errors
        ratios = self._client_errors.log_ratios(share, canary.requests, client[0], stable.requests, client[1])
        self._grow("client errors", ratios, seconds)
        outage = self._state.outage.log_ratio(
            canary.requests, canary.errors, stable.requests, stable.errors, seconds, self.margins.outage.handicap
        )
        self._grow("outage", [outage], seconds)

    def _bet_on_latency(
        self, judged: Mapping[int, int], others: Mapping[int, int], share: float, window: JudgedWindow
    ) -> None:
        prepared = self._state.prepared
        if not prepared or prepared.step != window.step or window.at_s >= prepared.at_s + PREPARED_FOR_S:
            self._state.prepared = PreparedBets(window.step, window.at_s, share)
            self._state.reference.fold()
            self._prepare()
        if not (judged or others) or not any(self._state.reference.counts):
            for name in self._latency:
                self._rest(name, window.seconds)
            return
        for name, bets in self._latency.items():
            ratios = [ratio / self._state.visitors.design_effect for ratio in bets.log_ratios(judged, others)]
            self._grow(name, ratios, window.seconds)

    def _prepare(self) -> None:
        """Fixes the bets on latency for the next seconds. They must depend only on requests before those that decide
        them.
        """
        if prepared := self._state.prepared:
            for bets in self._latency.values():
                bets.prepare(self._state.reference.counts, prepared.share)

    def _grow(self, name: LaneName, ratios: Sequence[float], seconds: float) -> None:
        self._state.lanes[name].add(ratios, seconds, self.margins.of(name))

    def _rest(self, name: LaneName, seconds: float) -> None:
        self._state.lanes[name].rest(seconds, self.margins.of(name))

    def _look(self) -> None:
        """Fails the canary if, for one kind of harm, both the evidence (the capital of its lane) and the measured harm
        are large enough, and enough visitors met it.
        """
        state, margins = self._state, self.margins
        certain = [name for name, lane in state.lanes.items() if lane.capital >= margins.certainty]
        if certain:
            sections = Sections.of(state.strata)
            found = effects(sections, self._buckets, margins.least_ms)
            for name in certain:
                effect = found[name]
                enough = state.visitors.enough(name, margins, sections.whole, sections.newest)
                if effect and effect.value >= margins.of(name).harm and enough:
                    self._fail(name, effect)
                    return

    def _fail(self, name: LaneName, effect: Effect) -> None:
        self._state.failure = report(self._state, self.margins, self._buckets, (name, effect))

    def verdict(self) -> CanaryVerdict:
        """Returns the verdict by all windows until now. `fail` may be acted on at any time, and is never taken back."""
        return self._state.failure or report(self._state, self.margins, self._buckets)

    def at_gate(self, last: bool) -> CanaryVerdict:
        """Returns the verdict for the end of a rollout's step; `last` says that it is the last one. While the verdict
        is inconclusive, it may be asked for again and again. For the last step, two further tests are made over the
        whole rollout; they are done once, as soon as the canary has had enough requests, and may fail it.
        """
        state = self._state
        enough = state.strata.requests(Track.CANARY) >= self.margins.passes_from
        if last and enough and not self.failed and not state.tested:
            state.tested = True
            if found := failed_test(state, self.margins, self._buckets):
                self._fail(*found)
        return self.verdict()

    def dump(self) -> dict[str, JsonValue]:
        """Returns the state as JSON values, some 15 KB however long the rollout lasts."""
        dumped: dict[str, JsonValue] = _STATE.dump_python(self._state, mode="json")
        return dumped

    @classmethod
    def restored(cls, dumped: Mapping[str, JsonValue], margins: Margins = Margins()) -> "Judge":  # noqa: B008
        """Returns a judge that goes on from a state that `dump` returned. Raises ValueError if another version of the
        analysis dumped it.
        """
        state = _STATE.validate_python(dict(dumped))
        judge = cls(state.le_ms, margins)
        bets = {name: bets + 1 for name, bets in judge._bets().items()}
        if state.version != VERSION or bets != {name: len(lane.held) for name, lane in state.lanes.items()}:
            raise ValueError("another version of the analysis dumped this")
        judge._state = state
        judge._prepare()
        return judge
