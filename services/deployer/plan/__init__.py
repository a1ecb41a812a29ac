"""Plans what to do for an environment: changes of its stored records, and background work. Pure: works from stored and
observed facts alone, without I/O or a clock. May import `releases` and the drivers' port (`drivers/driver.py`).
Imported by `store`, `failures`, `reconcile` and `main`.
"""
