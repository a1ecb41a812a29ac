"""Benchmarks (`make bench`): each prints its measurements next to a comparison or a goal.

May import `stack` and `shared`; `scale/` and `canary/` alone may import services. Imported by the tests alone. In
import order:

bare_envoy, throughput, proxy         `make bench-proxy`: throughput next to bare Envoy; `app/` is what they serve
switchover, comparison, competitors   updates under load; `docker service update` and `docker compose up -d`
containers, deploy                    `make bench-deploy`: releases, a rollback, a canary; then updates of containers
build_overhead, long_log, build       `make bench-build`: the platform's time in a build; a step with a long log
flags                                 `make bench-flags`: a switched flag by Redis and a stream, among 10 to 10 000
idle                                  `make bench-idle`: start to ready, memory and CPU of the idle stack
overload                              `make bench-overload`: idle apps beside programs that want all of the CPU
canary/                               `make bench-canary`: the canary's judge and Flagger's rule on simulated traffic
abort/                                `make bench-abort`: bad canaries on a real stack, and the time of an abort
scale/                                `make bench-scale`: a stack, and each service's own classes, with 1 to 400 apps
"""
