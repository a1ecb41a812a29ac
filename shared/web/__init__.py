"""Makes the FastAPI app of every service (health, readiness, metrics, errors, request log, pages), and pages of lists.

May import all of shared. Imported by all five services; `pages` renders their HTML.
"""
