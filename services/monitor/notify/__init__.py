"""Defines messages to people, their recipients and silences, and the notifier that sends them. May import `rules`
and `analysis` (verdicts). Imported by `dispatch`, `api` and `main`.
"""
