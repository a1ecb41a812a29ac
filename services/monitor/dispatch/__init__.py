"""Delivers messages: groups alerts, turns events into deliveries, sends and retries these; the message that Redis does
not answer, which cannot be stored, is sent directly.

May import `notify` and `alerts`. Imported by `api` and `main`.
"""
