"""Plans without I/O and without a clock: observed facts become changes of stored records, and background work.

May import `releases` and the drivers' port (`drivers/driver.py`). Imported by `store`, `reconcile` and `main`.
"""
