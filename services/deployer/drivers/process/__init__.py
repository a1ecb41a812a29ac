"""The process driver: instances as processes of this machine, with control groups or a guard as memory limits."""
