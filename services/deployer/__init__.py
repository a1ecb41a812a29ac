"""Releases builds that passed the gates into environments, and keeps their instances running.

The deployer reconciles each environment (production or canary of an app): from stored records and from observed facts,
which the driver, probes and the proxy give, it plans changes of the records and background work. Packages in import
order:

releases      environments, releases and instances with their states; overrides and their encryption
drivers       the port to an engine that runs instances (`driver.py`), with memory limits; `process/` and `docker/`
plan          decides, without I/O, on changes of stored records and on background work
failures      explains why an instance failed, without secrets in the text
kept          a cache for data that are requested more often than they change
store         releases, instances and overrides in Redis
reconcile     carries out the plan of each environment; probes instances, calls the proxy, accepts requests
rebuild       requests new builds of artifacts from which no instance can be started any more
lifecycle     stops, starts, restarts and removes environments on request
api           the REST interface
config, main  settings, assembly of the service; `shutdown` ends all instances with the platform
"""
