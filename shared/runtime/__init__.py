"""Runs the background work of a service: loops with back-off and liveness, and work at shutdown.

Imports nothing of shared. Imported by all five services, and by `host` and `web`.
"""
