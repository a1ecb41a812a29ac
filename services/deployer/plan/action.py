"""What a plan may consist of. Changes are stored, all of a plan's at once; work is done in the background and may be
begun again at any time.
"""

from dataclasses import dataclass

from shared.models import InstanceState, ReleaseState


@dataclass(frozen=True)
class AddInstance:
    """Another instance for the release; `replaces`: the failed one whose restarts it counts on."""

    release: str
    replaces: str | None = None


@dataclass(frozen=True)
class MoveInstance:
    """`fault`: it counts against its release, which is starting or being watched."""

    instance: str
    state: InstanceState
    reason: str
    fault: bool = False


@dataclass(frozen=True)
class NoteAddress:
    instance: str
    address: str


@dataclass(frozen=True)
class NoteEnd:
    """Nothing of the instance runs any more."""

    instance: str


@dataclass(frozen=True)
class DropInstance:
    """The instance ended a while ago and is not needed for anything any more."""

    instance: str


@dataclass(frozen=True)
class MoveRelease:
    release: str
    state: ReleaseState
    reason: str
    abort_rollout: bool = False


@dataclass(frozen=True)
class Switch:
    """From now on the old instances are taken out of the route."""

    release: str


@dataclass(frozen=True)
class MakeRoom:
    """Stop-first: from now on the old instances are taken out, and the release's own are started after them."""

    release: str


@dataclass(frozen=True)
class NoteDown:
    """Visitors are served again, whom the release had left without an instance."""

    release: str


@dataclass(frozen=True)
class Say:
    """What the release waits for, in words for a person."""

    release: str
    reason: str


@dataclass(frozen=True)
class WantMemory:
    """From now on the environment's instances are to have that much memory each, bytes; `release` needs it."""

    release: str
    memory: int


Change = (
    AddInstance
    | MoveInstance
    | NoteAddress
    | NoteEnd
    | DropInstance
    | MoveRelease
    | Switch
    | MakeRoom
    | NoteDown
    | Say
    | WantMemory
)


@dataclass(frozen=True)
class Check:
    """Look whether the release's instances can be started, as far as that is known without starting one."""

    release: str


@dataclass(frozen=True)
class StartInstance:
    """Start the process or container."""

    instance: str


@dataclass(frozen=True)
class StopInstance:
    """End it; its requests are done."""

    instance: str


@dataclass(frozen=True)
class SetMemory:
    """Another limit for the running instance, bytes."""

    instance: str
    memory: int


@dataclass(frozen=True)
class SyncProxy:
    """Have the proxy read the registry and say what it made of it."""


@dataclass(frozen=True)
class OpenRollout:
    release: str


@dataclass(frozen=True)
class AbortRollout:
    release: str


@dataclass(frozen=True)
class TakeBack:
    """Have the last good release follow this faulty one."""

    release: str


Work = Check | StartInstance | StopInstance | SetMemory | SyncProxy | OpenRollout | AbortRollout | TakeBack
