"""Runs the background work of a service: loops and keyed tasks, back-off, work at shutdown.

Imports nothing of shared. Imported by all five services, and by `http`, `host` and `web`.
"""
