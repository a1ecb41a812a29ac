"""Delivers messages: groups alerts, turns events into deliveries, sends and retries these.

May import `notify`. Imported by `api` and `main`.
"""
