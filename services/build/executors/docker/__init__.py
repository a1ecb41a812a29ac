"""Implements the executor port by containers; an artifact is an image.

May import `executors.executor`, `inference`, `reports` and `system`. Imported by `main` alone. No other package of
the build service imports `docker`.
"""
