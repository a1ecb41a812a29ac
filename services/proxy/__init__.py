"""Routes visitors to releases: it writes Envoy's configuration, runs canary rollouts and counts traffic.

Envoy serves the visitors, also while this service is down. States of a rollout: progressing ⇄ paused → promoted |
aborted. A failed promotion pauses it until a person resumes it; a deployer that has not answered for 5 s pauses it
until the deployer answers again. Packages and modules, each of which may import only those above it:

routes/     the domain: routes, endpoints, rollouts and their evidence, deployer liveness, storage in Redis
envoy/      Envoy's bootstrap, clusters, routes and files; its admin interface
traffic.py  request counts and latencies per track, from Envoy's counters
control/    the single writer of routes; registry sync, rollout service, deployer tasks, automatic pause, Envoy loops
api/        REST and HTML pages

`metrics.py` is the Prometheus collector, `main.py` the composition root.
"""
