"""Stores the logs of builds: splits output into lines, stores lines and lets clients follow them. May import `system`.
Imported by `api`, `builds`, `git`, `manifest`, `pipeline`, `queue`, `reports`, `retention`, `secrets`, `triggers` and
`main`.
"""
