"""What starts a build: a push, a gated push before git accepts it, a source that is fetched."""
