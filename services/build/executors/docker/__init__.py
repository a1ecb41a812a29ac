"""The Docker executor: steps in containers, artifacts as images. Only this package imports `docker`."""
