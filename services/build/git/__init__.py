"""Serves and manages the git repositories: smart HTTP, hooks and their socket, fetching from sources, limits of a
commit. May import `logs` and `system`. Imported by `api`, `builds`, `cache`, `forges`, `gates`, `manifest`, `pipeline`,
`reports`, `retention`, `triggers` and `main`.
"""
