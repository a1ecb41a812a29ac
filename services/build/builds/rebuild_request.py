"""Defines the request to build a commit again whose artifact is gone."""

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.models import Commit, Environment, Model

ReleaseId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*-r[0-9]+$", max_length=60)]


class RebuildRequest(Model):
    """Request body of `POST /apps/{app}/rebuilds`."""

    release: ReleaseId = Field(description="Id of the live release whose artifact is gone, or cannot be run.")
    environment: Environment = Field(description="Its environment, to which the build is deployed.")
    commit: Commit = Field(description="Its commit.")
