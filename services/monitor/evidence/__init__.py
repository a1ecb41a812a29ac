"""Keeps what the canary analysis found in each rollout, for 30 days: figures and verdicts of its steps, and a series of
production's and the canary's figures for charts. All is held in memory and written to Redis later, so that an abort
never waits for it.

May import `analysis` (windows and verdicts), `alerts` (the canary analyses), `checks` (states of own metrics and hooks)
and `rules` (names of rules). Imported by `api`, `metrics` and `main`.
"""
