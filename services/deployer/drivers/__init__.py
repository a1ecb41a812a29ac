"""Drivers run instances on an engine. `driver.py` is the port; `process/` and `docker/` implement it.

The files here are shared by the drivers and import none of them.
"""
