"""Calls the metrics and hooks that an app has of its own, by URL, while its canary is analysed.

May import `notify` (cleaned texts) and `progress` (checks at the end of a step). Imported by `evidence`, `api` and
`main`.
"""
