"""Background work of a service: loops, and work at shutdown."""
