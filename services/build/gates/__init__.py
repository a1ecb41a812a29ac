"""Judges builds: compares figures with thresholds. Also code metrics, baselines, diff coverage and flaky tests.

May import `git`, `reports` and `system`. Imported by `api`, `builds`, `cache`, `manifest`, `pipeline`, `retention`
and `main`.
"""
