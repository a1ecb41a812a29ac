"""Judges a build's figures, such as its test coverage, by thresholds (gates); adds up the reports that its steps write;
handles baselines (earlier builds to compare with) and flaky tests. May import `git`, `reports` and `system`. Imported
by `analysis`, `api`, `builds`, `cache`, `manifest`, `pipeline`, `retention` and `main`.
"""
