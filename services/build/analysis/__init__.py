"""Analyses the source of a commit: complexity and length of functions, secrets, and which files are vendored or
generated. May import `gates`, `reports` and `system`. Imported by `pipeline` and `main`.
"""
