import pytest
from redis.asyncio import Redis

from services.build.secrets.secret import Secret
from services.build.secrets.secret_store import SecretStore
from shared.errors import NotFound
from tests.support.build.builds import AT

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(redis: Redis) -> SecretStore:
    return SecretStore(redis)


def secret(sealed: str) -> Secret:
    return Secret(sealed=sealed, set_at=AT)


async def test_a_secret_is_put_changed_and_dropped(store: SecretStore) -> None:
    assert await store.all("notes") == {}
    for name, sealed in (("B", "1"), ("A", "2"), ("C", "3"), ("B", "4"), ("B", "4")):
        await store.put("notes", name, secret(sealed))
    kept = await store.all("notes")
    assert list(kept.items()) == [("A", secret("2")), ("B", secret("4")), ("C", secret("3"))]
    await store.drop("notes", "B")
    with pytest.raises(NotFound, match="notes has no secret B; GET /apps/notes/secrets"):
        await store.drop("notes", "B")
    assert list(await store.all("notes")) == ["A", "C"]


async def test_an_app_is_forgotten_and_no_other(store: SecretStore) -> None:
    for app in ("notes", "other"):
        await store.put(app, "A", secret(app))
    for _ in range(2):
        await store.forget("notes")
    assert await store.all("notes") == {}
    assert await store.all("other") == {"A": secret("other")}
