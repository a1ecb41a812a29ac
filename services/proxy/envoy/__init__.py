"""Creates Envoy's configuration, writes it to files, and reads Envoy's admin interface. May import `routes` and
`visitors`. Imported by `counting`, `control`, `certificates` and `main`; `stack` also prepares Envoy's files with it.
"""
