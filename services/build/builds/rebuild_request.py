"""Defines the request to build the commit of a release again, because its artifact is gone."""

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.models import Commit, EnvironmentName, Model

ReleaseId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*-r[0-9]+$", max_length=60)]


class RebuildRequest(Model):
    """Holds the request body of `POST /apps/{app}/rebuilds`."""

    release: ReleaseId = Field(description="Id of the live release whose artifact is gone, or cannot be run.")
    environment: EnvironmentName = Field(description="Environment of the release, to which the build is deployed.")
    commit: Commit = Field(description="Commit of the release.")
