"""Tests which values of an app's environment are masked in texts that leave the deployer."""

from services.deployer.releases.environment import AppFacts, Override, SecretOverride
from services.deployer.releases.environment_mask import environment_mask
from shared.models import Environment
from tests.support.deployer.fakes import T0

FACTS = AppFacts(
    ofrep_endpoint="http://127.0.0.1:3003",
    redis_url="redis://app:s3cr3t-of-redis@127.0.0.1:6379/0",
    flags_tokens={Environment.PRODUCTION: "production.t0ken", Environment.CANARY: "canary.t0ken"},
)


def test_secrets_and_passwords_are_masked_and_variables_are_not() -> None:
    override = Override.model_validate(
        {
            "variables": {
                "GREETING": "hello",
                "DATABASE_URL": "postgres://notes:pa55word@db/notes",
                "BAD": "http://[x",
            },
            "secrets": {"KEY": SecretOverride.model_validate({"value": "key-of-the-vault", "set_at": T0})},
        }
    )
    mask = environment_mask(override, FACTS, Environment.PRODUCTION)
    said = "hello postgres://notes:pa55word@db/notes redis://app:s3cr3t-of-redis@127.0.0.1 production.t0ken"
    assert mask(said) == "hello postgres://notes:***@db/notes redis://app:***@127.0.0.1 ***"
    assert mask("KeyError: key-of-the-vault") == "KeyError: ***"
