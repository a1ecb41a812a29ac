"""Benchmarks of one service's own classes at 1, 10, 100 and 400 apps, without a stack.

May import services, `shared` and `stack.clients`. Each file has a function `rows`, and prints its table if it is run:

proxy   CPU of a change, of an idle second and of a reading of Envoy; Redis commands of an idle round
"""
