"""Runs instances: `driver.py` is the port (the interface), which `process/` implements by processes and `docker/` by
containers. The other files of this folder serve both. May import `shared`, but no other package of the deployer. The
port is imported by `plan`, `failures`, `reconcile`, `api` and `main`, the implementations only by `main` and
`shutdown`.
"""
