"""The platform in containers: docker-compose.yml as a project of its own, on a real Docker Engine."""
