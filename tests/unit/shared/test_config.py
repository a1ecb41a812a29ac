"""Settings: where the token and the Redis password come from."""

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.config import SharedSettings, secret_file


def test_the_token_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = SharedSettings(home=tmp_path).platform_token()
    assert len(first) >= 32
    assert SharedSettings(home=tmp_path).platform_token() == first
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_the_variable_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = secret_file(tmp_path / "token")
    monkeypatch.setenv("SLIPWAY_TOKEN", "from the variable")
    assert SharedSettings(home=tmp_path).platform_token() == "from the variable"
    monkeypatch.setenv("SLIPWAY_TOKEN", "")
    assert SharedSettings(home=tmp_path).platform_token() == kept


def test_a_token_is_not_shown(tmp_path: Path) -> None:
    settings = SharedSettings.model_validate({"home": tmp_path, "token": "hush"})
    assert "hush" not in repr(settings)


def test_the_kept_redis_password_is_used_where_the_url_has_none(tmp_path: Path) -> None:
    settings = SharedSettings(home=tmp_path, redis_url="redis://127.0.0.1:7000/2")
    assert settings.redis_connection_url() == "redis://127.0.0.1:7000/2"
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "password").write_text("a/b@c\n")
    assert settings.redis_connection_url() == "redis://:a%2Fb%40c@127.0.0.1:7000/2"
    own = SharedSettings(home=tmp_path, redis_url="redis://:mine@127.0.0.1:7000/2")
    assert own.redis_connection_url() == "redis://:mine@127.0.0.1:7000/2"


def test_an_unknown_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="driver"):
        SharedSettings.model_validate({"home": tmp_path, "driver": "kubernetes"})


def test_in_containers_secrets_lie_apart_and_services_are_found_by_name(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    settings = SharedSettings(
        home=tmp_path / "home", secrets=secrets, address="{service}", host="0.0.0.0", outside="paas.example.com"
    )
    assert settings.platform_token() == secret_file(secrets / "token")
    assert settings.url("flags") == "http://flags:3003"
    assert settings.outside_url("flags") == "http://paas.example.com:3003"
    secret_file(secrets / "redis" / "password")
    assert "@127.0.0.1:6379" in settings.redis_connection_url()


def test_a_stack_has_the_name_that_it_is_given_or_one_of_its_own_that_stays(tmp_path: Path) -> None:
    one, other = (SharedSettings(home=tmp_path / home).stack_id() for home in ("one", "other"))
    assert one != other and len(one) == 12
    assert SharedSettings(home=tmp_path / "one").stack_id() == one
    assert SharedSettings(home=tmp_path / "one", stack="shop_2-a").stack_id() == "shop_2-a"


@pytest.mark.parametrize("name", ["Shop", "-shop", "sh op", "a" * 32, "shop\n"])
def test_a_name_of_a_stack_that_an_engine_would_not_take_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="stack"):
        SharedSettings(home=tmp_path, stack=name)


def test_trusted_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    settings = SharedSettings(home=tmp_path, trusted_proxies=" 10.0.0.7  192.0.2.0/24\n2001:db8::/32 ")
    assert [str(each) for each in settings.trusted_networks] == ["10.0.0.7/32", "192.0.2.0/24", "2001:db8::/32"]
    assert SharedSettings(home=tmp_path).trusted_networks == []


@pytest.mark.parametrize("text", ["caddy", "10.0.0.7,10.0.0.8", "10.0.0.7/24", "10.0.0.0/33", "*"])
def test_what_is_no_address_of_a_proxy_is_refused_with_an_example(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValidationError, match=r"trusted_proxies(.|\n)*such as `10\.0\.0\.7"):
        SharedSettings(home=tmp_path, trusted_proxies=text)


def test_the_port_for_the_proxy_protocol_needs_proxies_that_may_use_it(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs SLIPWAY_TRUSTED_PROXIES"):
        SharedSettings(home=tmp_path, proxy_protocol_port=3457)
    settings = SharedSettings(home=tmp_path, proxy_protocol_port=3457, trusted_proxies="10.0.0.7")
    assert settings.envoy_ports["SLIPWAY_PROXY_PROTOCOL_PORT"] == 3457
    assert "SLIPWAY_PROXY_PROTOCOL_PORT" not in SharedSettings(home=tmp_path).envoy_ports
