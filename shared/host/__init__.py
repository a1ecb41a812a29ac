"""Reads facts of the machine: what is left of disk, descriptors and inotify instances (`machine.py`), Docker Engine,
processes, folders, subnets, TCP ports, the log of Redis; reserves ports; names signals. May import `runtime`. Imported
by build, deployer, monitor and proxy, by `config` (for the limits of a disk), by `web` (for `/ready`, and the message
that a port is taken), and by `stack`.
"""
