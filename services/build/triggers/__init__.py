"""Starts builds: by a push, by a push to a gated branch before git accepts it, by a fetch of the app's source. May
import `builds`, `forges`, `git`, `logs`, `queue` and `system`. Imported by `api` and `main`.
"""
