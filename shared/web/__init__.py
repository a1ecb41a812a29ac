"""Creates the FastAPI app of every service (health, readiness, metrics, errors, request log, pages) and cuts lists into
pages. May import all of `shared`. Imported by all five services.
"""
