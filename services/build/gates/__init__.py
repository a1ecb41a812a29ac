"""Judges builds by thresholds for their figures: reports, diff coverage, baselines and flaky tests.

May import `git`, `reports` and `system`. Imported by `analysis`, `api`, `builds`, `cache`, `manifest`, `pipeline`,
`retention` and `main`.
"""
