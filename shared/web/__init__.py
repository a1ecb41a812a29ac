"""The app factory of every service: health, readiness, metrics, errors, request log, pages."""
