"""GitHub, GitLab and Gitea: webhook payloads, the log of deliveries, and commit statuses."""
