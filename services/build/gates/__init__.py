"""Judges the figures of builds by thresholds; reads reports, measures diff coverage, and handles baselines and flaky
tests. May import `git`, `reports` and `system`. Imported by `analysis`, `api`, `builds`, `cache`, `manifest`,
`pipeline`, `retention` and `main`.
"""
