"""Defines alert rules: which metric of a release is compared with which threshold.

Imports no other package of the monitor. Imported by `samples`, `notify`, `alerts` and `api`.
"""
