"""Deletes expired files and records of ended builds, collects garbage on the engine and in repositories, and removes
apps.

May import `builds`, `executors.executor`, `gates`, `git`, `logs`, `queue` and `system`. Imported by `api` and `main`.
"""
