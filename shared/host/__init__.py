"""Reads facts of the machine: what is left of disk, descriptors and inotify instances (`machine.py`), Docker Engine,
processes, directories, subnets, TCP ports, the log of Redis; reserves ports; names signals.

May import `runtime`. Imported by build, deployer, monitor and proxy, by `config` (limits of a disk), `web` (`/ready`, a
port that is taken), and by `stack`.
"""
