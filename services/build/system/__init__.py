"""Wraps the operating system: commands, pipes, sandboxed tools, safe removal, globs of paths. And writes calls of the
API as reasons name them.

Imports no other package of the service. Imported by `analysis`, `builds`, `executors`, `gates`, `git`, `manifest`,
`pipeline`, `queue`, `reports`, `retention`, `triggers` and `main`.
"""
