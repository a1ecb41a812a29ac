"""Implements the executor port with processes of this machine; an artifact is a folder. May import `executors.executor`
and `system`. Imported by `main` alone.
"""
