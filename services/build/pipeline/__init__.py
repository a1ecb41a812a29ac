"""Runs one build: checkout, steps, gates, artifact, deployment. `run.py` is the entry. May import `analysis`, `builds`,
`cache`, `executors.executor`, `gates`, `git`, `logs`, `manifest`, `reports`, `secrets` and `system`. Imported by `main`
alone.
"""
