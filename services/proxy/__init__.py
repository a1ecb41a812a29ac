"""Routes visitors: Envoy's configuration, canary rollouts, traffic figures. Envoy carries the visitors, this service
writes its files, so visitors are served while it is down.

Rollout: progressing ⇄ paused → promoted | aborted. It is paused by a promotion that failed, until a person resumes it,
or by a deployer that is silent for 5 s, until that answers again.

Domain, pure: route (hosts, endpoints), rollout (its states), traffic (counts from readings), evidence (what is kept of
an end), hearing (is the deployer silent?), words (figures for people); envoy_clusters, envoy_routes and envoy_bootstrap
make Envoy's documents. At the border: envoy_files writes them, envoy_admin reads what Envoy says, journal keeps what a
start without Redis needs, store is Redis' copy, page and page_api are for people. In between: control (the one
writer), sync (registry → routes), rollouts (what is done to a rollout), handover (what the deployer is asked), pauses
(asks whether it lives), loops, metrics.
"""
