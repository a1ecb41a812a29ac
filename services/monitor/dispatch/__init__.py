"""Delivers messages: groups alerts, turns events into deliveries, sends and retries deliveries. May import `notify`.
Imported by `api` and `main`.
"""
