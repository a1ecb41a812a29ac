"""Reads facts of the machine: Docker Engine, processes, directories, subnets, TCP ports; reserves ports; names signals.

May import `runtime`. Imported by build and deployer, by `web` (a port that is taken), and by `stack`.
"""
