"""The process executor: steps as processes of this machine, artifacts as directories."""
