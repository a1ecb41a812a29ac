"""Stops, starts, restarts and removes environments: stores such requests, and finishes removals. May import `plan`,
`releases`, `store`, the drivers' port (`drivers/driver.py`) and `reconcile`. Imported by `api` and `main`.
"""
