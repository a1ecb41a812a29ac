"""Reads the app's manifest: parses it with line numbers, completes it by inference, and orders its steps. May import
`builds`, `gates`, `git`, `inference`, `logs`, `secrets` and `system`. Imported by `cache` and `pipeline`.
"""
