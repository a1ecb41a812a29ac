"""Routes visitors to releases: it writes Envoy's configuration, runs canary rollouts and counts traffic.

Envoy serves the visitors, even while this service is down. A rollout (a canary release on its way to production) is
progressing ⇄ paused, then promoted or aborted. After a failed promotion it is paused until a person resumes it; if the
deployer (the service that runs releases) has not answered for 5 s, until the deployer answers again. Each of these
packages may import only those above it:

routes/     routes, host names, edge settings, endpoints, rollouts and their evidence; whether the deployer answers;
            storage in Redis
envoy/      Envoy's bootstrap, clusters, routes and files; its admin interface
counting/   request counts and latencies of production and canary, from Envoy's access log
control/    the only writer of routes; what applies the registry's instances to them, changes rollouts and edge
            settings, pauses rollouts while the deployer does not answer, sends the deployer requests, and watches Envoy
api/        REST and HTML pages

`metrics.py` exports metrics to Prometheus; `main.py` assembles the service.
"""
