"""Decides which builds run when, and runs them by workers. May import `builds`, `logs` and `system`. Imported by `api`,
`triggers` and `main`.
"""
