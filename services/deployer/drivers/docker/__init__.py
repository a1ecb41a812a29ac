"""The Docker driver: instances as containers of a Docker Engine. Only this package imports `docker`."""
