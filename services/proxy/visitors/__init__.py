"""Configures how visitors reach Envoy: HTTPS. May import `routes`. Imported by `envoy` and `certificates`."""
