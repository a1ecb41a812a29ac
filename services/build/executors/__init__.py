"""Defines how steps run and how artifacts are sealed. `executor.py` is the port; `process/` and `docker/` implement it.

The port imports no other package of the service, the implementations may import `system` and `reports`. The port is
imported by `builds`, `cache`, `git`, `pipeline`, `queue`, `retention`, `system` and `main`, the implementations by
`main` alone.
"""
