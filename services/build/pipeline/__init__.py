"""Runs one build: checkout, steps, gates, artifact, deploy. `run.py` reads from top to bottom.

May import `builds`, `cache`, `executors.executor`, `gates`, `git`, `logs`, `manifest`, `reports`, `secrets` and
`system`. Imported by `main` alone.
"""
