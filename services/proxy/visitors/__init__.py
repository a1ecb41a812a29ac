"""Creates the parts of Envoy's configuration that concern visitors: HTTPS, how many connections and requests they may
have and for how long, which requests are refused, and what an app gets to know about the client. May import `routes`.
Imported by `envoy` and `certificates`.
"""
