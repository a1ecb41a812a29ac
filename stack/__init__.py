"""The whole stack on one machine: the launcher, the demo, the benchmarks and their load.

launcher.py, programs.py      `make local`: Redis, Envoy and the five services under supervisor; its configuration
compose.py, first_run.py      `make up` and `make down`; what the containers share
network.py                    the network that apps are on, with addresses of their own
redis_conf.py                 how Redis is run, wherever
compose_stack.py              the stack in containers, as control.py holds the one on processes
control.py, borrow.py         the stack as a test, a bench or the demo holds it: started, asked, hurt, ended
git.py, delivery.py           an app of one's own: pushed, asked about over REST
connection.py, load.py        visitors at a constant rate, each of whom is accounted for (report.py)
outside.py                    one who waits for a version; crowds of new visitors
demo.py, story.py, teller.py  `make demo`
bench_deploy.py               `make bench-deploy`: ten releases, a rollback, a canary, under load
bench_containers.py           its second half: beside Swarm and compose (contest.py, rivals.py, takeover.py)
bench_build.py, overhead.py   `make bench-build`: what the platform adds to a build whose steps do nothing
bench_log.py                  its last part: a step that prints 200 000 lines
bench_idle.py                 `make bench-idle`: start to ready, and what the idle stack holds
bench_proxy.py                `make bench-proxy`: with hammer.py, bare_envoy.py and the app in bench_app/
"""
