"""An app: which branch goes where, and the least that its gates demand."""

import re
from datetime import datetime

from pydantic import Field, field_validator

from shared.manifest import Flaky, Gates
from shared.models import AppName, Environment, Model, View

Branches = dict[str, Environment]
DEFAULT_BRANCHES: Branches = {"release": Environment.PRODUCTION, "dev": Environment.CANARY}
_BRANCH = re.compile(r"^(?![/.-])(?!.*(?:\.\.|//|@\{|\.lock$|[/.]$))[A-Za-z0-9._/@+-]{1,200}$")


class App(View):
    """`gates` are the app's own minimum, `flaky` its patience: a manifest may tighten them, never loosen them."""

    name: AppName
    branches: Branches
    gates: Gates = Gates()
    flaky: Flaky = Flaky()
    created_at: datetime


class AppSettings(Model):
    """Body of `PUT /apps/{app}`: a field that is left out stays as it is."""

    branches: Branches | None = Field(None, description="Branch → environment. Other branches are kept, not built.")
    gates: Gates | None = Field(
        None, description="The app's own minimum; null in a gate means the platform's default. May loosen that default."
    )

    flaky: Flaky | None = Field(
        None, description="What is done about tests that fail; null in it means the platform's default."
    )

    @field_validator("branches")
    @classmethod
    def _are_branch_names(cls, branches: Branches | None) -> Branches | None:
        for name in branches or {}:
            if not _BRANCH.match(name):
                raise ValueError(f"{name[:80]!r} is not the name of a git branch")
        return branches

    def applied_to(self, app: App) -> App:
        given = {"branches": self.branches, "gates": self.gates, "flaky": self.flaky}
        return app.model_copy(update={name: value for name, value in given.items() if value is not None})


class NewApp(AppSettings):
    name: AppName

    def make(self, now: datetime) -> App:
        return self.applied_to(new_app(self.name, now))


def new_app(name: str, now: datetime) -> App:
    """An app as the first push makes it."""
    return App(name=name, branches=dict(DEFAULT_BRANCHES), created_at=now)
