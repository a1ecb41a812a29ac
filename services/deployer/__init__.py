"""Releases builds that passed the gates into environments, and keeps their instances running.

The deployer reconciles each environment: from stored records and observed facts (of driver, probes and proxy) it plans
changes of the records and background work. Packages in import order:

releases      environments, releases and instances with their states; overrides and their encryption
drivers       the port to an engine that runs instances (`driver.py`), with memory limits; `process/` and `docker/`
plan          decides, without I/O, on changes of stored records and on background work
failures      explains why an instance failed, without secrets in the text
kept          a cache for data that are requested more often than they change
store         releases, instances and overrides in Redis
reconcile     carries out the plan of each environment; probes instances, calls the proxy, accepts requests
rebuild       has artifacts built again from which no instance can be started
lifecycle     stops, starts, restarts and removes environments on request
api           the REST interface
config, main  settings, assembly of the service; `shutdown` ends all instances with the platform
"""
