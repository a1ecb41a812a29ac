"""Defines apps and builds: their states and stores, commit statuses, queries and comparisons.

May import `gates`, `git`, `logs` and `system`. Imported by `api`, `cache`, `forges`, `manifest`,
`pipeline`, `queue`, `retention`, `triggers` and `main`.
"""
