"""Wraps the operating system: commands, pipes, sandboxed tools, safe removal.

Imports no other package of the service. Imported by `analysis`, `builds`, `executors`, `gates`, `git`, `pipeline`,
`queue`, `retention` and `main`.
"""
