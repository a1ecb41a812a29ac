"""Deletes expired files and records of ended builds, and collects garbage on the engine and in repositories.

May import `builds`, `executors.executor`, `gates`, `git`, `logs` and `system`. Imported by `api` and `main`.
"""
