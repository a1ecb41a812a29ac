"""Manages the secrets of apps: encrypted in storage, given to the steps that name them, masked in all output.

May import `logs`. Imported by `api`, `manifest`, `pipeline` and `main`.
"""
