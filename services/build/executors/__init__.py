"""Executors run steps and seal artifacts. `executor.py` is the port; `process/` and `docker/` implement it."""
