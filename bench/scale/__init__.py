"""Measures what 1, 10, 100 and 400 apps cost: on one real stack, and in each service's own classes without a stack.

May import services and `shared`, and clients, settings and paths of `stack`. `python -m bench.scale` starts a stack.
Of the other files, each has a function `rows` that measures, and prints its table if it is run:

redis_server          a Redis of its own, and what it has done
build                 git processes, CPU and Redis commands of the build service's loops
deployer              CPU of the deployer's process, and the time of its answers about all instances
monitor               CPU and Redis commands of the monitor's loops, and how long a round of its rules takes
proxy                 CPU of a change, of an idle second and of a reading of Envoy; Redis commands of an idle round
access_log            lines of Envoy's access log that the proxy service counts in a second of CPU, and its memory
new_visitors, kills   what the stack's benchmark visits and kills
"""
