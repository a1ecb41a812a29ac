"""Short ways to make routes, endpoints and registry entries for tests."""

from datetime import UTC, datetime

from services.proxy.routes.rollout import Rollout
from services.proxy.routes.route import Endpoint, EndpointState, Route
from shared.models import InstanceRecord, InstanceState, Track

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def endpoint(key: str, state: EndpointState = EndpointState.READY, port: int = 20000) -> Endpoint:
    """`key` is an instance's id, `notes-r1-1`."""
    address = f"127.0.0.1:{port}"
    return Endpoint(id=key, release=key.rpartition("-")[0], address=address, state=state, since=NOW, health="/up")


def record(key: str, state: InstanceState = InstanceState.READY, port: int = 20000) -> InstanceRecord:
    return InstanceRecord(
        id=key,
        release=key.rpartition("-")[0],
        commit="0" * 40,
        address=f"127.0.0.1:{port}",
        state=state,
        memory_limit=2**26,
        updated_at=NOW,
    )


def route(
    *stable: Endpoint, canary: tuple[Endpoint, ...] = (), rollout: str | None = None, app: str = "notes"
) -> Route:
    """With its clusters known to Envoy; `rollout` is the release of one that progresses."""
    return Route(
        app=app,
        hosts=[f"{app}.localhost"],
        health="/up",
        clusters=True,
        endpoints={
            Track.STABLE: {item.id: item for item in stable},
            Track.CANARY: {item.id: item for item in canary},
        },
        rollout=Rollout(release=rollout, at=NOW) if rollout else None,
    )
