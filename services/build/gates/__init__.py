"""Judges builds by thresholds for their figures: reports, code metrics, diff coverage, baselines and flaky tests.

May import `git`, `reports` and `system`. Imported by `api`, `builds`, `cache`, `manifest`, `pipeline`, `retention` and
`main`.
"""
