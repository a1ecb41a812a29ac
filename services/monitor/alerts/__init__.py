"""Defines alerts with their states, evaluates the rules for every watched release, feeds the canary analysis with
traffic, and watches the platform itself. May import `rules`, `samples`, `inventory` and `analysis`. Imported by `api`,
`dispatch`, `main`, `loops` and `metrics`.
"""
