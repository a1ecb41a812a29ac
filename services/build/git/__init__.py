"""Serves and manages the apps' git repositories: smart HTTP, hooks and the socket to which hooks report pushes,
fetching from outside repositories, limits of a commit's files. May import `logs` and `system`. Imported by `api`,
`builds`, `cache`, `forges`, `gates`, `manifest`, `pipeline`, `reports`, `retention`, `triggers` and `main`.
"""
