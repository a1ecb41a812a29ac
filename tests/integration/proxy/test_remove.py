"""A removed route in a real Envoy: the host is unknown, other apps serve on, and the name can be used again."""

import httpx
import pytest

from shared.models import Track
from tests.support.proxy.proxy_stack import Stack

pytestmark = pytest.mark.anyio
HOST = {"host": "notes.localhost"}


async def test_a_removed_route_answers_404_and_the_name_is_free_again(stack: Stack, http: httpx.AsyncClient) -> None:
    async with stack.service():
        first, other = stack.app("first"), stack.app("other")
        await stack.put(other, release="other-r1", of="other")
        await stack.sync("other")
        await stack.put(first)
        await stack.sync(hosts=["notes.example.com"])
        assert (await http.get("/", headers=HOST)).text == "first"
        refused = await stack.api.delete("/apps/notes/route")
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "notes has instances: notes-r1-first; the deployer ends them first",
        )

        await stack.put(first, "draining")
        while (await stack.sync())["instances"]["notes-r1-first"]["route"] != "absent":
            pass
        await stack.registry.delete_instance("notes", Track.STABLE, "notes-r1-first")
        for _ in range(2):
            assert (await stack.api.delete("/apps/notes/route")).status_code == 204
        assert (await stack.api.get("/apps/notes/rollout")).status_code == 404
        assert (await http.get("/", headers={"host": "other.localhost"})).text == "other"
        for listener in ("public", "production"):
            assert (await http.get(stack.url(listener), headers=HOST)).status_code == 404, "no app has the host"
        assert (await stack.api.get("/ready")).json()["problems"] == {}

        again = stack.app("again")
        await stack.put(again)
        await stack.sync()
        assert (await http.get("/", headers=HOST)).text == "again"
