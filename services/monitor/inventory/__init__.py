"""Tracks the instances in the registry, which release is live in each production, also across restarts, and whether a
canary's ill instances are its own fault. May import `rules`. Imported by `alerts`, `main` and `loops`.
"""
