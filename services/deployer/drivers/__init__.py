"""Drivers run instances on an engine; `driver.py` is the port, `process/` and `docker/` implement it.

Both implementations use the files in this folder, which import neither. The drivers may import shared, but no other
package of the deployer. The port is imported by `plan`, `failures`, `reconcile`, `api` and `main`; the implementations
only by `main` and `shutdown`.
"""
