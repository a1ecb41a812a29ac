"""Creates the mask that hides an environment's secrets in texts that leave the deployer, such as logs. Pure."""

from urllib.parse import urlsplit

from services.deployer.releases.environment import AppFacts, Override
from shared.models import Environment
from shared.security.mask import Mask
from shared.security.secret_mask import mask_of


def environment_mask(override: Override, facts: AppFacts, environment: Environment) -> Mask:
    """Returns a mask that hides the environment's secrets, the password in REDIS_URL, FLAGS_TOKEN, and the passwords in
    variables that hold URLs.
    """
    secrets = [secret.value.get_secret_value() for secret in override.secrets.values()]
    urls = [facts.redis_url, *override.variables.values()]
    passwords = [password for url in urls if (password := _password(url))]
    return mask_of([*secrets, *passwords, facts.flags_tokens[environment]])


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
