"""Envoy's configuration as documents and files, and its admin interface.

May import `routes`. Imported by `traffic`, `control` and `main`; `stack` prepares Envoy's files with it too.
"""
