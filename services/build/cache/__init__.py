"""Reuses the results of earlier builds: the key under which a build passed, and the store of passed builds.

May import `builds`, `executors.executor`, `gates`, `git` and `manifest`. Imported by `pipeline` and `main`.
"""
