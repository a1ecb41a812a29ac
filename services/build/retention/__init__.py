"""Deletes expired files and records of ended builds, removes leftovers in the executor, packs repositories, and removes
apps. May import `builds`, `executors.executor`, `gates`, `git`, `logs`, `queue` and `system`. Imported by `api` and
`main`.
"""
