"""Reconciliation: loops that observe every environment, plan, store the changes, and carry out the work.

May import `plan`, `releases`, `drivers` and `store`. Imported by `api` and `main`.
"""
