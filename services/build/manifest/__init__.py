"""Reads the app's manifest: parsing with line numbers, completing it by inference, and the graph of its steps.

May import `builds`, `gates`, `git`, `inference`, `logs`, `secrets` and `system`. Imported by `cache` and `pipeline`.
"""
