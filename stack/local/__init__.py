"""Runs the stack on one machine without containers: the launcher, the configuration of supervisor, and a handle on the
stack. May import `redis_conf` and `private_file` of `stack`. Imported by `clients`, `compose`, `stack_fixture`, `demo`,
`bench` and the tests.
"""
