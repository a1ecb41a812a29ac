"""Defines apps and builds: their states and stores, commit statuses, queries and comparisons.

May import `executors.executor`, `gates`, `git` and `logs`. Imported by `api`, `cache`, `forges`, `manifest`,
`pipeline`, `queue`, `retention`, `triggers` and `main`.
"""
