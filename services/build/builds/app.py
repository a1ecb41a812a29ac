"""Defines an app: its branches and their environments, its minimum gates, and its source."""

import re
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from services.build.git.remote_source import Source, SourceSettings, SourceView, changed_source
from shared.errors import Conflict, Invalid
from shared.manifest import Excluded, Flaky, Gates
from shared.models import AppName, Environment, EnvironmentName, Model, View, whole_numbers
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault

Branches = dict[str, Environment]
Gate = Literal["push"]  # a push to a branch of production is accepted only once its commit has passed
DEFAULT_BRANCHES: Branches = {"release": Environment.PRODUCTION, "dev": Environment.CANARY}
_FOLDER = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._@+-]+(/(?!\.{1,2}(/|$))[A-Za-z0-9._@+-]+)*")
_BRANCH = re.compile(r"(?![/.-])(?!.*(?:\.\.|//|@\{|\.lock$|[/.]$))[A-Za-z0-9._/@+-]{1,200}")

_GATE_AND_SOURCE = (
    "gate: push and a source exclude each other: what is pushed to a forge does not pass this gate. Either set "
    "source to null, or gate to null and have the forge protect the branch by the statuses slipway/build, /test "
    "and /analysis"
)


class AppRemoval(View):
    """Records that people have requested the removal of the app. It is stored before anything is removed."""

    since: datetime
    volumes: list[str] | None = Field([], description="Names of the volumes that are removed, too; null: all.")
    waits_for: str = Field("", description="What the removal waits for.")


class _AppFields(View):
    """Holds the fields that the stored app (`App`) and the app as clients see it (`AppView`) share."""

    name: AppName
    branches: Branches
    gates: Gates = Field(Gates(), description="Minimum of the gates; a manifest may only tighten them.")
    flaky: Flaky = Field(Flaky(), description="Limits for flaky tests; a manifest may only tighten them.")
    exclude: Excluded = Field(
        [], description="Vendored and generated files that `complexity` and `function_length` leave out."
    )
    baseline: bool = Field(False, description="True: what the app's first commit to pass already has does not count.")
    gate: Gate | None = Field(
        None, description="`push`: pushes to production's branches need a verdict first; null: none does."
    )
    root: str | None = Field(
        None, description="Folder of the repository that holds the app, with its slipway.yml; null: all of it."
    )
    created_at: datetime
    removing: AppRemoval | None = Field(None, description="The app is being removed; null: it is not.")


class AppView(_AppFields):
    """Response body of `GET /apps/{app}`: an app without its access token and webhook secret."""

    source: SourceView | None = None


class App(_AppFields):
    """Holds an app as it is stored, with its access token and webhook secret. `view` returns it as clients see it,
    without these two.
    """

    source: Source | None = None

    def is_gated(self, branch: str) -> bool:
        """Returns True if a push to the branch is accepted only after a build of its commit has passed."""
        return self.gate == "push" and self.branches.get(branch) is Environment.PRODUCTION

    def check_stays(self) -> None:
        """Raises Conflict if the app is being removed."""
        if self.removing is not None:
            raise Conflict(f"{self.name} is being removed; when that is done, a push makes a new app of this name")

    def view(self) -> AppView:
        return AppView(**self.model_dump(exclude={"source"}), source=self.source.view() if self.source else None)


class AppGates(Gates):
    model_config = ConfigDict(strict=True)
    _numbers = model_validator(mode="before")(whole_numbers)


class AppFlaky(Flaky):
    model_config = ConfigDict(strict=True)
    _numbers = model_validator(mode="before")(whole_numbers)


class AppSettings(Model):
    """Request body of `PUT /apps/{app}`. A field that is left out keeps its value."""

    branches: dict[str, EnvironmentName] | None = Field(
        None, description="Environment by branch. Pushes to other branches are stored and not built."
    )
    gates: AppGates | None = Field(
        None, description="Minimum of the app's gates; null means the platform's default, which the app may loosen."
    )
    flaky: AppFlaky | None = Field(None, description="Limits for flaky tests; null means the platform's default.")
    exclude: Excluded | None = Field(
        None,
        description="Vendored and generated files that `complexity` and `function_length` leave out: patterns as in "
        ".gitignore (`static/lib/`, `*.gen.py`); `!` before a pattern takes its files in again.",
    )
    baseline: bool | None = Field(
        None,
        description="True: what the first commit to pass from now on has of `complexity`, `function_length` and "
        "`findings` is known, each finding by itself, and does not count; false: all count again.",
    )
    gate: Literal["push", "none"] | None = Field(
        None,
        description="`push`: pushes to production's branches are accepted once their commits passed; `none`: always.",
    )
    root: str | None = Field(
        None,
        max_length=200,
        description="Folder of the repository that holds the app, like `services/web`; null: the whole repository.",
    )
    source: SourceSettings | None = Field(
        None, description="Repository of a forge that the app is fetched from; null: it is pushed here."
    )

    @field_validator("branches")
    @classmethod
    def _are_branch_names(cls, branches: Branches | None) -> Branches | None:
        for name in branches or {}:
            check_branch(name)
        return branches

    @field_validator("root")
    @classmethod
    def _is_folder(cls, root: str | None) -> str | None:
        root = root.strip("/") if root is not None else None
        if root and not _FOLDER.fullmatch(root):
            raise ValueError("must be a folder inside the repository, like services/web, without `..`")
        return root or None

    def applied_to(self, app: App, vault: Vault, *, guard: AddressGuard) -> App:
        """Returns the app with these settings. `vault` encrypts the source's token and secret; `guard` decides which
        addresses a source may have. Raises Invalid for an invalid source, and for a source together with `gate`.
        """
        given = {name: getattr(self, name) for name in ("branches", "gates", "flaky", "exclude", "baseline")}
        update: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if "root" in self.model_fields_set:
            update["root"] = self.root
        if "source" in self.model_fields_set:
            update["source"] = self.source and changed_source(self.source, app.source, vault, guard=guard)
        if "gate" in self.model_fields_set:
            update["gate"] = None if self.gate == "none" else self.gate
        changed = app.model_copy(update=update)
        if changed.gate is not None and changed.source is not None:
            raise Invalid("gate" if self.gate == "push" else "source", _GATE_AND_SOURCE)
        return changed


class NewApp(AppSettings):
    name: AppName

    def make(self, now: datetime, vault: Vault, *, guard: AddressGuard) -> App:
        return self.applied_to(new_app(self.name, now), vault, guard=guard)


def new_app(name: str, now: datetime) -> App:
    """Returns an app with the default branches and gates."""
    return App(name=name, branches=dict(DEFAULT_BRANCHES), created_at=now)


def check_branch(name: str) -> None:
    """Raises ValueError if `name` is not a valid name of a git branch."""
    if not _BRANCH.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is not the name of a git branch")
