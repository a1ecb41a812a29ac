"""Wraps the operating system: commands, pipes, sandboxed tools, safe removal, globs of paths. Formats requests of the
API for messages. Imports no other package of the service. Imported by `analysis`, `builds`, `executors`, `gates`,
`git`, `logs`, `manifest`, `pipeline`, `queue`, `reports`, `retention`, `triggers` and `main`.
"""
