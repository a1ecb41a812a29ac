"""REST and HTML pages of the proxy.

May import every other package of the proxy. Imported by `main` alone.
"""
