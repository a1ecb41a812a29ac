"""The deployer releases builds that passed into environments, and keeps their instances running.

It reconciles each environment: from stored records and observed facts (driver, prober, proxy) it plans changes of the
records and background work. Packages in import order:

releases      domain: environments, releases and instances with their states; overrides and their encryption
drivers       the port to an engine that runs instances (`driver.py`), with memory limits; `process/` and `docker/`
plan          decides without I/O: observed facts become changes of stored records, and background work
failures      why an instance failed: what was seen of it, in words, without secrets
kept          a value that is asked for often is read again only after a change
store         releases, instances and overrides in Redis
reconcile     carries out the plan of each environment; probes instances, commands the proxy, accepts requests
rebuild       has artifacts built again from which no instance can be started
lifecycle     stops, starts, restarts and removes environments on request
api           REST routes and the views of clients
config, main  settings, composition root; `shutdown` ends all instances with the platform
"""
