"""Says why an instance failed: collects what was seen of it, puts it into words, and masks secrets.

May import `plan`, `releases` and the drivers' port (`drivers/driver.py`). Imported by `reconcile` alone.
"""
