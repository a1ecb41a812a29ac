"""Requests that artifacts of live releases are built again, if no instance can be started from them.

May import `drivers`, `plan`, `releases` and `store`. Imported by `main`.
"""
