"""Hands Envoy the endpoints of its clusters (EDS), which it reads from `<home>/envoy/eds`.

It is a process of its own, `python -m services.keeper <home>/envoy`, and needs nothing but those files: no
settings, Redis or service. If Envoy read the files itself, it would take an inotify instance for each of them, of which
a user has 128. Modules, each of which may import only those above it:

xds.py           the messages of Envoy's protocol that are used here
assignments.py   the files, as such messages
folder_watch.py  which files were moved into the folder
keeper.py        the server, with what each connected Envoy holds

May import nothing else of the tree. `__main__.py` starts the server; nothing imports this package.
"""
