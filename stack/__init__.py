"""Runs the whole stack on one machine, for people, tests, the demo and benchmarks.

Packages and modules, each of which may import only those above it:

redis_conf.py     the configuration of Redis
private_file.py   files that hold secrets
local/            `make local`: Redis, keeper, Envoy and the five services under supervisor; `LocalStack`, a handle
clients/          clients of a stack: git pushes, REST, visitors at a constant rate, probes, a mail server
compose/          `make up` and `make down`: the stack in containers; `ComposeStack`; the network of the apps
stack_fixture.py  the running stack, or a temporary one
demo/             `make demo`

May import `shared`; `local` also uses `services.deployer` and `services.proxy`. Imported by `bench` and the tests.
"""
