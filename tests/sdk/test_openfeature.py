"""Flags read by OpenFeature's own SDK for Python from the running service, and by an app with only a Redis client."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from openfeature import api as openfeature
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from stack.clients.probe_client import wait_for
from tests.sdk.conftest import Service, start

ANN = EvaluationContext("ann", {"email": "ann@example.com"})


def client_with(service: Service, headers: dict[str, str]) -> OpenFeatureClient:
    openfeature.set_provider(OFREPProvider(service.url, headers_factory=lambda: headers))
    return openfeature.get_client()


@pytest.fixture
def client(service: Service) -> Iterator[OpenFeatureClient]:
    yield client_with(service, {"Authorization": f"Bearer {service.token}"})
    openfeature.shutdown()


def test_values_of_every_type(client: OpenFeatureClient) -> None:
    assert client.get_boolean_value("switch", False) is True
    assert client.get_string_value("colour", "none") == "blue"
    assert client.get_integer_value("count", 0) == 3
    ratio = client.get_float_details("ratio", 0.0)
    assert (ratio.value, type(ratio.value), ratio.error_code) == (1.0, float, None)
    assert client.get_object_value("limits", {}) == {"max": [1, 2]}


def test_details_say_variant_reason_and_metadata(client: OpenFeatureClient) -> None:
    details = client.get_boolean_details("kind", False)
    assert (details.variant, details.reason, details.flag_metadata) == ("on", Reason.STATIC, {"owner": "ann"})


def test_targeting_goes_by_the_context(client: OpenFeatureClient) -> None:
    chosen = client.get_boolean_details("beta", False, ANN)
    assert (chosen.value, chosen.reason) == (True, Reason.TARGETING_MATCH)
    other = client.get_boolean_details("beta", True, EvaluationContext("bob", {"email": "bob@else.org"}))
    assert (other.value, other.reason) == (False, Reason.DEFAULT)


@pytest.mark.parametrize("default", [True, False])
def test_a_disabled_flag_is_the_callers_default_and_no_error(client: OpenFeatureClient, default: bool) -> None:
    details = client.get_boolean_details("disabled", default)
    assert (details.value, details.reason, details.error_code) == (default, Reason.DISABLED, None)


def test_what_cannot_be_told_is_the_default_with_an_error(client: OpenFeatureClient) -> None:
    unknown = client.get_boolean_details("nothing", True)
    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    mistaken = client.get_boolean_details("colour", True)
    assert (mistaken.value, mistaken.error_code) == (True, ErrorCode.TYPE_MISMATCH)


def test_a_wrong_token_is_refused_and_an_api_key_taken(service: Service) -> None:
    refused = client_with(service, {"Authorization": "Bearer production.wrong"}).get_boolean_details("switch", False)
    assert (refused.value, refused.error_code, refused.error_message) == (False, ErrorCode.GENERAL, "unauthorized")
    assert client_with(service, {"X-API-Key": service.token}).get_boolean_value("switch", False) is True
    openfeature.shutdown()


def test_a_switch_is_seen_by_the_next_question(service: Service, client: OpenFeatureClient) -> None:
    with service.api() as api:
        api.patch("/flags/switch", json={"defaultVariant": "off"}).raise_for_status()
        assert client.get_boolean_value("switch", True) is False
        api.post("/flags/beta/switch", params={"to": "off", "rules": "aside"}).raise_for_status()
        assert client.get_boolean_value("beta", True, ANN) is False
        api.post("/flags/disabled/switch", params={"to": "off"}).raise_for_status()
        assert client.get_boolean_value("disabled", True) is False


def test_an_app_with_only_a_redis_client_sees_a_switch_at_once(service: Service) -> None:
    """With the PATCH's answer: the mirror is written in the transaction that the answer waits for."""
    with redis.Redis.from_url(service.app_redis_url, decode_responses=True) as app, service.api() as api:
        for variant, plain in [("off", "0"), ("on", "1")] * 5:
            api.patch("/flags/switch", json={"defaultVariant": variant}).raise_for_status()
            assert app.get("flag:switch") == plain


def may_read(app: "redis.Redis", key: str) -> bool:
    try:
        app.get(key)
    except redis.exceptions.NoPermissionError:
        return False
    return True


def test_a_mirror_that_an_owner_names_becomes_readable(service: Service) -> None:
    with redis.Redis.from_url(service.app_redis_url, decode_responses=True) as app, service.api() as api:
        with pytest.raises(redis.exceptions.NoPermissionError):
            app.get("featureFlag")
        api.patch("/flags/switch", json={"metadata": {"mirror": "featureFlag"}}).raise_for_status()
        wait_for(lambda: may_read(app, "featureFlag"), "the right to read it", 10)
        assert app.get("featureFlag") == "1"
        for key in ("flags:version", "featureFlag2", "events"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                app.get(key)


def test_an_open_stream_ends_with_the_service(redis_server: str, tmp_path: Path) -> None:
    service = start(tmp_path, redis_server)
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx.stream("GET", f"{service.url}/ofrep/v1/stream", headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: message"
        service.process.terminate()
        assert len(list(lines)) >= 2  # to its end; a stream that uvicorn cuts off, after 1 s, raises
        service.process.wait(15)
    assert "Traceback" not in (tmp_path / "flags.log").read_text()
