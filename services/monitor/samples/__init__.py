"""Measures instances and releases over time: caches in memory, downsampling, storage in Redis.

May import `rules`. Imported by `scaling`, `alerts`, `api` and the modules of the composition (`main`, `loops`,
`metrics`).
"""
