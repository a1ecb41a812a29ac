"""Makes the request that opens a canary's rollout, with the override key: a request with this key in the header
`x-canary` is sent to the canary. Pure.
"""

import re

from services.deployer.releases.environment import Override
from services.deployer.releases.release import Release
from shared.models import Environment
from shared.proxy_models import RolloutRequest

KEY = re.compile(r"[!-~]{16,200}")
RULE = "16 to 200 printable ASCII characters without spaces"


def rollout_request(release: Release, override: Override) -> RolloutRequest:
    """Returns the request to the proxy. Its field `weight` is for a proxy of an earlier version. Raises KeyError if the
    manifest names a secret as the override key and that secret is not set: without a key, everybody could have their
    requests sent to the canary. (`key_fault` checks this before.)
    """
    canary = release.manifest.canary
    key = override.secrets[canary.override].value.get_secret_value() if canary.override is not None else ""
    return RolloutRequest(
        release=release.id,
        weight=canary.plan()[0].weight,
        notify=release.manifest.notify,
        canary=canary,
        override_key=key,
    )


def key_fault(release: Release, override: Override) -> str:
    """Returns the reason why a canary release has no usable override key (the value of the secret that
    `canary.override` in its manifest names), with the remedy; empty if it has one, or needs none.
    """
    name = release.manifest.canary.override
    if name is None or release.environment is not Environment.CANARY:
        return ""
    secret = override.secrets.get(name)
    if name in override.locked:
        why = "cannot be decrypted with the platform's key"
    elif secret is None:
        why = "is not set"
    elif not KEY.fullmatch(secret.value.get_secret_value()):
        why = f"is no value of a header: it needs {RULE}"
    else:
        return ""
    call = f'PATCH /apps/{release.app}/environments/canary {{"secrets": {{"{name}": "…"}}}}'
    return f"canary.override names the secret {name}, which {why}; {call} sets it, then release the build again"
