"""Connects with GitHub, GitLab and Gitea: webhook payloads, the log of deliveries, and commit statuses.

May import `builds`, `git` and `system`. Imported by `api`, `triggers` and `main`.
"""
