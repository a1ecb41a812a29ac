"""Implements the executor port by processes of this machine; an artifact is a directory.

May import `executors.executor` and `system`. Imported by `main` alone.
"""
