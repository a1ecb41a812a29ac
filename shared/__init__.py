"""Holds the code that two or more services use; it imports no service. Packages in import order:

state, clock, errors             transition tables, UTC time, errors as RFC 9457 problem details
canary, manifest, models, proxy_models
                                 `slipway.yml`; REST bodies, registry entries and events that cross a service's border
config                           settings from environment variables `SLIPWAY_*`
runtime                          background loops and tasks, back-off, work at shutdown
registry, events, store, http    service discovery, the event stream, the Redis client, calls between services
host                             facts of the machine: Docker Engine, processes, directories, subnets
security                         the platform's token, secrets derived from it, encryption of stored secrets
web                              the FastAPI app factory: health, readiness, errors, metrics, pages
"""

__version__ = "0.1.0"
