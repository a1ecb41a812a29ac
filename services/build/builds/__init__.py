"""The domain of the build service: apps, builds, their states and stores, commit statuses, queries."""
