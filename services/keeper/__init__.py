"""Sends Envoy the endpoints of its clusters (EDS) and the certificates of host names (SDS), from files in
`<home>/envoy`.

The keeper is a process of its own, `python -m services.keeper <home>/envoy`. It needs only those files: no settings, no
Redis and no other service. If Envoy read the files itself, it would need an inotify instance for each of them, of which
a user has 128. Each of these modules may import only those above it:

xds.py            the messages of Envoy's protocol that the keeper uses
resource_file.py  reads a file and converts it into such a message
endpoints.py      the files of endpoints, in the folder `eds`
certificates.py   the files of certificates, in the folder `certificates`
folder_watch.py   notices files that were moved into the folders or removed
log_limit.py      empties Envoy's access log when it has become too long
keeper.py         the server, and the state of each connected Envoy

The package may import no other package of Slipway. `__main__.py` starts the server; nothing imports this package.
"""
