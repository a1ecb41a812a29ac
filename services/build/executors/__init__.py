"""Defines how steps run and how artifacts are made. `executor.py` is the port (the interface); `process/` and `docker/`
implement it. May import `inference` and `system`, and `docker/` also `reports`. The port is imported by `cache`,
`pipeline`, `retention` and `main`, the implementations by `main` alone.
"""
