"""Calls, by URL, the metrics and hooks that an app has of its own, while its canary is analysed and after its rollout.

May import `notify` (cleaned texts), `progress` (results of checks at the end of a step) and `samples` (to which app a
release id belongs). Imported by `evidence`, `api` and `main`.
"""
