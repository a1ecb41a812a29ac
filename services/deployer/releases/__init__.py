"""Defines environments, releases and instances of apps, with their states, and the settings that people override. May
import only `shared`. Imported by `plan`, `failures`, `reconcile`, `api`, `store` and `main`.
"""
