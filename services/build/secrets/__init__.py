"""Manages the secrets of apps: stores them encrypted, gives them to the steps that name them, and masks them in all
output. May import `logs`. Imported by `api`, `manifest`, `pipeline` and `main`.
"""
