"""Queues builds: by a push, by a push to a gated branch before git accepts it, or by a fetch of the app's source (a
repository at a forge). May import `builds`, `forges`, `git`, `logs`, `queue` and `system`. Imported by `api` and
`main`.
"""
