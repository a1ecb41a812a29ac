"""Wraps the operating system: commands, pipes, sandboxed tools, safe removal, background tasks.

May import `executors.executor` for its types `Output` and `Stop`, and no other package of the service. Imported by
`executors.docker`, `executors.process`, `forges`, `gates`, `git`, `pipeline`, `retention`, `triggers` and `main`.
"""
