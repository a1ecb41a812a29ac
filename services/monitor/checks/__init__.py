"""Calls the metrics and hooks that an app has of its own, by URL, while its canary is analysed.

May import `notify` (cleaned texts), `progress` (checks at the end of a step) and `samples` (whose release an id is).
Imported by `evidence`, `api` and `main`.
"""
