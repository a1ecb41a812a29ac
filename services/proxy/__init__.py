"""Routes visitors to releases: it writes Envoy's configuration, runs canary rollouts and counts traffic.

Envoy serves the visitors, even while this service is down. A rollout is progressing ⇄ paused, then promoted or aborted.
After a failed promotion the rollout is paused until a person resumes it. If the deployer does not answer for
5 s, it is paused until the deployer answers again. Each of these packages may import only those above it:

routes/        routes, endpoints, rollouts and their evidence; deployer liveness; storage in Redis
envoy/         Envoy's bootstrap, clusters, routes and files; its admin interface
counting/      request counts and latencies per track, from Envoy's access log
control/       the only writer of routes; registry sync, rollout service, deployer tasks, automatic pause, Envoy loops
certificates/  certificates of hosts: those that people set, and those of a certificate authority
api/           REST and HTML pages

`metrics.py` exports metrics to Prometheus; `main.py` assembles the service.
"""
