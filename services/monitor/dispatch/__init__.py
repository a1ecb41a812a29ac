"""Delivers messages: groups alerts, turns events into deliveries, sends and retries deliveries. The message that Redis
does not answer cannot be stored, and is sent directly. May import `notify` and `alerts`. Imported by `api` and `main`.
"""
