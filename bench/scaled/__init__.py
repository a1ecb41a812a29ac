"""Benchmarks of one service's own loops at 1, 10, 100 and 400 idle apps, without a stack.

May import `shared` and the stack's settings and paths. Each file has a function `rows`, and prints its table if it is
run:

deployer       CPU of the deployer's process, and the time of its answers about all instances
"""
