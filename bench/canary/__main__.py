"""Runs the benchmark: `python -m bench.canary`."""

import argparse
import os
import resource
import sys
import time

from bench.canary.cases import BOTH_ILL, HARMS, NOT_INDEPENDENT, SAME_CODE, SimulatedCase
from bench.canary.runs import INTERVALS_S, AbortSummary, Summary, summaries

LEFT_ALONE_RUNS = 1000
HARM_RUNS = 200
QUICK = 25
"""Part of the runs that `--quick` does: one in so many."""
COLUMNS = "{:<56} {:<10} {:>5}  {:>27}  " + "  ".join("{:>20}" for _ in INTERVALS_S)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.canary", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of the runs; the promises are not checked")
    parser.add_argument("--only", default="", help="only the cases whose names contain this")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    began, missed = time.monotonic(), []
    for title, cases, runs in (
        ("Same code as production", SAME_CODE, LEFT_ALONE_RUNS),
        ("Production is as ill", BOTH_ILL, LEFT_ALONE_RUNS),
        ("Requests that depend on each other; nothing is promised", NOT_INDEPENDENT, HARM_RUNS),
        ("The canary does harm", HARMS, HARM_RUNS),
    ):
        chosen = [case for case in cases if options.only in case.name]
        if not chosen:
            continue
        missed += _section(title, chosen, max(runs // QUICK, 4) if options.quick else runs, options.processes)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    lasted_s, cpu_s = time.monotonic() - began, used.ru_utime + used.ru_stime
    print(f"\n{lasted_s:.0f} s in {options.processes} processes, {cpu_s:.0f} s of CPU")
    if options.quick:
        return 0
    for each in missed:
        print(f"missed: {each}")
    return 1 if missed else 0


def _section(title: str, cases: list[SimulatedCase], runs: int, processes: int) -> list[str]:
    print(f"\n{title}: {runs} runs each. Aborted, median (99 %) of the seconds, bad answers until then")
    print(COLUMNS.format("", "promise", "pass", "judge", *(f"Flagger every {each:.0f} s" for each in INTERVALS_S)))
    missed = []
    for summary in summaries([(case, runs) for case in cases], processes):
        _print(summary)
        if reason := summary.missed():
            missed.append(reason)
    return missed


def _print(summary: Summary) -> None:
    figures = [f"{summary.passed:.0%}", _side(summary.judge, worst=True), *map(_side, summary.flagger)]
    print(COLUMNS.format(summary.case.name, summary.case.promise, *figures), flush=True)


def _side(side: AbortSummary, worst: bool = False) -> str:
    if side.median_s is None:
        return f"{side.share:.1%}"
    slowest = f" ({side.worst_s:.0f})" if worst else ""
    return f"{side.share:.1%} / {side.median_s:.0f}{slowest} s / {side.bad:.0f}"


if __name__ == "__main__":
    sys.exit(main())
