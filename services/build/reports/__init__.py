"""Parses the reports of steps (JUnit, Cobertura, LCOV, SARIF), and maps their paths to files of the commit.

May import `git.tree_limits`, `logs` and `system`. Imported by `analysis`, `executors.docker`, `gates` and `pipeline`.
"""
