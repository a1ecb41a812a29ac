"""Defines alerts with their states, evaluates the rules for every watched release, and watches the platform itself. May
import `rules`, `samples` and `inventory`. Imported by `api`, `dispatch`, `main`, `loops` and `metrics`.
"""
