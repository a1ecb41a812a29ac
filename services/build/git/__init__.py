"""Git: smart HTTP, bare repositories, the socket between hooks and service, fetching, limits of a commit."""
