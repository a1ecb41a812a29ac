"""Delivery of messages: grouping of alerts, the outbox with its retries, the dispatcher that follows events.

May import `notify`. Imported by `api` and `main`.
"""
