"""The stack on one machine without containers: the launcher, and the configuration of its supervisor."""
