"""Redis holds variables and secrets encrypted only, and values that another key encrypted stay stored."""

import json

import pytest
from pydantic import SecretStr

from services.deployer.releases.environment import NOTHING, Override, SecretOverride
from services.deployer.releases.override_encryption import OverrideEncryption
from tests.support.deployer.fakes import T0

KEY, OTHER_KEY = "first-key", "second-key"
ENCRYPTION = OverrideEncryption([KEY])
OVERRIDE = Override(
    replicas=2,
    memory=2**27,
    variables={"GREETING": "hello-variable"},
    secrets={"DATABASE_URL": SecretOverride(value=SecretStr("hello-secret"), set_at=T0)},
)


def reopened(text: str, *keys: str) -> Override:
    return OverrideEncryption(keys).open(text)


def variables(**values: str) -> Override:
    return Override(variables=values)


def configuration(override: Override, key: str = KEY) -> str:
    return reopened(OverrideEncryption([key]).seal(override), key).configuration


def test_what_is_sealed_is_opened_and_nothing_of_it_can_be_read() -> None:
    text = ENCRYPTION.seal(OVERRIDE)
    assert ENCRYPTION.open(text) == OVERRIDE.model_copy(update={"configuration": configuration(OVERRIDE)})
    assert "hello" not in text
    assert text != ENCRYPTION.seal(OVERRIDE)


def test_the_configuration_is_of_the_values_alone_and_lasts() -> None:
    assert configuration(OVERRIDE) == configuration(OVERRIDE)
    assert configuration(variables(A="b")) == configuration(variables(A="b").model_copy(update={"replicas": 3}))
    as_secret = Override(secrets={"A": SecretOverride(value=SecretStr("b"), set_at=T0)})
    assert configuration(variables(A="b")) == configuration(as_secret)
    assert (
        len({configuration(each) for each in (Override(), variables(A="b"), variables(A="c"), variables(B="b"))}) == 4
    )


def test_without_the_key_nobody_can_try_which_value_has_that_digest() -> None:
    assert configuration(variables(PIN="1234")) != configuration(variables(PIN="1234"), OTHER_KEY)


def test_who_has_nothing_set_is_not_replaced_by_an_upgrade() -> None:
    """The digest of no variables, as the version before vaults wrote it into every instance."""
    assert configuration(Override(replicas=2), OTHER_KEY) == NOTHING == "44136fa355b3678a"


def test_plain_text_of_an_older_version_is_read_and_not_written() -> None:
    text = '{"replicas":2,"memory":null,"variables":{"GREETING":"hello-variable"}}'
    opened = ENCRYPTION.open(text)
    assert (opened.replicas, opened.variables, opened.problem) == (2, {"GREETING": "hello-variable"}, "")
    assert opened.configuration == configuration(variables(GREETING="hello-variable"))
    assert "hello" not in ENCRYPTION.seal(opened)


def test_without_the_right_key_the_values_are_locked_and_the_rest_goes_on() -> None:
    text = ENCRYPTION.seal(OVERRIDE)
    lost = reopened(text, OTHER_KEY)
    assert (lost.replicas, lost.memory, lost.all_variables(), set(lost.locked)) == (
        2,
        2**27,
        {},
        {"GREETING", "DATABASE_URL"},
    )
    assert lost.configuration == configuration(OVERRIDE)


def test_another_wish_without_the_right_key_keeps_what_is_locked_for_the_day_when_it_is_back() -> None:
    lost = reopened(ENCRYPTION.seal(OVERRIDE), OTHER_KEY)
    text = OverrideEncryption([OTHER_KEY]).seal(lost.model_copy(update={"replicas": 3, "variables": {"NEW": "n"}}))
    assert reopened(text, OTHER_KEY).configuration == configuration(OVERRIDE)
    both = reopened(text, KEY, OTHER_KEY)
    assert (both.replicas, both.problem) == (3, "")
    assert both.all_variables() == {"GREETING": "hello-variable", "DATABASE_URL": "hello-secret", "NEW": "n"}
    assert both.secrets == OVERRIDE.secrets


def test_what_was_tampered_with_is_locked() -> None:
    stored = json.loads(ENCRYPTION.seal(variables(A="b")))
    stored["variables"]["A"]["sealed"] = stored["variables"]["A"]["sealed"][:-8] + "AAAAAAA="
    assert set(ENCRYPTION.open(json.dumps(stored)).locked) == {"A"}


def test_a_new_key_before_the_old_one_encrypts_from_now_on() -> None:
    text = OverrideEncryption([OTHER_KEY, KEY]).seal(reopened(ENCRYPTION.seal(OVERRIDE), OTHER_KEY, KEY))
    assert reopened(text, OTHER_KEY).all_variables() == OVERRIDE.all_variables()
    assert reopened(text, KEY).problem != ""


def test_without_any_key_there_is_no_vault() -> None:
    with pytest.raises(ValueError, match="<home>/key is empty"):
        OverrideEncryption([])
