"""Creates the parts of Envoy's listeners that concern visitors: how many connections and requests they may have and for
how long, which requests are refused, and what an app gets to know about the client. Imports no other package of the
proxy. Imported by `envoy`.
"""
