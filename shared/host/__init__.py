"""Reads facts of the machine that build and deployer need: Docker Engine, processes, directories, subnets.

May import `runtime`. Imported by build and deployer, and by `stack/compose` (the subnet).
"""
