"""Exports the outcomes of probes to Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.deployer.reconcile.probe import ProbeOutcome
from services.deployer.reconcile.prober import DISCOUNTED, Prober


class ProbeCollector(Collector):
    """Exports the number of health probes by outcome, and for how long in all the deployer was too busy to handle
    probes in time, in seconds.
    """

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    def collect(self) -> Iterator[CounterMetricFamily]:
        probes = CounterMetricFamily(
            "slipway_probes",
            "Probes by outcome: answered, failed (the app did something else), late (no answer in time), or discounted "
            "(it says nothing about the instance).",
            labels=["outcome"],
        )
        for outcome in (ProbeOutcome.ANSWERED, ProbeOutcome.FAILED, ProbeOutcome.LATE, DISCOUNTED):
            probes.add_metric([outcome], self._prober.outcomes[outcome])
        yield probes
        yield CounterMetricFamily(
            "slipway_probe_lag_seconds",
            "Time by which probes were late because the deployer was; instances get as much longer to answer.",
            value=self._prober.lag_s,
        )
