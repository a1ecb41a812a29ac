"""Connects with GitHub, GitLab and Gitea: webhook payloads, the log of deliveries, and commit statuses.

May import `builds` and `git`. Imported by `api`, `triggers` and `main`.
"""
