"""Explains failures of instances: collects evidence, words the reason, and masks secrets. May import `plan`, `releases`
and the drivers' port (`drivers/driver.py`). Imported by `reconcile` alone.
"""
