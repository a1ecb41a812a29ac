"""Applies retention: expiry of the files and records of ended builds, and garbage collection on the engine and in
repositories.

May import `builds`, `executors.executor`, `gates`, `git`, `logs` and `system`. Imported by `api` and `main`.
"""
