"""Runs one build: checkout, steps, gates, artifact, deploy. Read `run.py` first.

May import `analysis`, `builds`, `cache`, `executors.executor`, `gates`, `git`, `logs`, `manifest`, `reports`, `secrets`
and `system`. Imported by `main` alone.
"""
