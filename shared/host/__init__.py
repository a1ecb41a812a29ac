"""Reads facts of the machine: Docker Engine, processes, folders, subnets, TCP ports; reserves ports; names signals. May
import `runtime`. Imported by build and deployer, by `web` (for the message that a port is taken), and by `stack`.
"""
