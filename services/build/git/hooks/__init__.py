"""Git's hooks. `receive.py` runs outside of the service, by a plain Python without packages."""
