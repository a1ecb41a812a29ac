"""Envoy's configuration as documents and files, and its admin interface.

May import `routes`. Imported by `traffic`, `control`, `api` and `main`.
"""
