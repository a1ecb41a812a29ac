"""Measures how well the canary's judge does on simulated traffic, next to Flagger's rule on the same traffic.

The traffic is drawn from seeds, so that each run can be repeated. May import the monitor's `analysis` and `shared`.
Imported by the tests alone. In import order: traffic; sticky; flagger; cases; runs; `__main__`.
"""
