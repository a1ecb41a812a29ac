"""Defines how steps run and how artifacts are made. `executor.py` is the port; `process/` and `docker/` implement it.

The port may import `system`, the implementations `system` and `reports`. The port is imported by `cache`, `pipeline`,
`retention` and `main`, the implementations by `main` alone.
"""
