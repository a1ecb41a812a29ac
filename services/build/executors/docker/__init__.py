"""Implements the executor port with containers; an artifact is an image. May import `executors.executor`, `inference`,
`reports` and `system`. Imported by `main` alone. No other package of the build service imports `docker`.
"""
