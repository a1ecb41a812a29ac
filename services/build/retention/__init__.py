"""Deletes old files and records of ended builds, removes containers and volumes that builds have left, packs git
repositories, and removes apps. May import `builds`, `executors.executor`, `gates`, `git`, `logs`, `queue` and `system`.
Imported by `api` and `main`.
"""
