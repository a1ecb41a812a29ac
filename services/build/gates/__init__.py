"""Gates: figures of a build compared with thresholds. Also code metrics, baselines, diff coverage and flaky tests."""
