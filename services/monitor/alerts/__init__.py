"""Alerts: their states, and the evaluator that compares every watched release with the rules.

May import `rules` and `samples`. Imported by `api`, `main`, `loops` and `metrics`.
"""
