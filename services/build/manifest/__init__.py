"""Reads the app's manifest: parsing with line numbers, inference from other files, and the graph of its steps.

May import `builds`, `gates`, `git`, `logs`, `secrets` and `system`. Imported by `cache` and `pipeline`.
"""
