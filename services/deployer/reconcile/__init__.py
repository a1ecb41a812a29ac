"""Reconciles every environment: observes, plans, stores the changes, and carries out the work in the background. May
import `plan`, `failures`, `releases`, `kept`, `store` and the drivers' port (`drivers/driver.py`). Imported by `api`
and `main`.
"""
