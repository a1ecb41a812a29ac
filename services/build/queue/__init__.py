"""Schedules builds, and runs them by workers.

May import `builds`, `executors.executor` and `logs`. Imported by `api`, `triggers` and `main`.
"""
