"""Reads an app's manifest, the file `slipway.yml` of a commit: parses it with line numbers, completes it by inference
from the commit's other files, and orders its steps. May import `builds`, `gates`, `git`, `inference`, `logs`, `secrets`
and `system`. Imported by `cache` and `pipeline`.
"""
