"""Tracks the instances in the registry, and which release is live in each production, also across restarts. May import
`rules`. Imported by `alerts`, `main` and `loops`.
"""
