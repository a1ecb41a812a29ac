"""Defines alerts with their states, and evaluates the rules for every watched release. May import `rules` and
`samples`. Imported by `api`, `main`, `loops` and `metrics`.
"""
