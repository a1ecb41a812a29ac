"""Runs the background work of a service: loops, keyed tasks, back-off, a callback at shutdown. Imports nothing of
`shared`. Imported by all five services, and by `http`, `host` and `web`.
"""
