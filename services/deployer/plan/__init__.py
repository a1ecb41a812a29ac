"""Plans, without I/O or a clock, changes of stored records and background work from stored and observed facts.

May import `releases` and the drivers' port (`drivers/driver.py`). Imported by `store`, `failures`,
`reconcile` and `main`.
"""
