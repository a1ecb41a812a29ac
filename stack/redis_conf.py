"""Makes the configuration of Redis, for every way to run the stack."""

from pathlib import Path


def redis_conf(host: str, port: int, folder: Path, password: str) -> str:
    """Returns `redis.conf`: writes are on disk before their answer, nothing is evicted, a password is required."""
    return "\n".join(
        [
            f"port {port}",
            f"bind {host}",
            f'dir "{folder}"',
            "appendonly yes",
            "appendfsync always",
            'save ""',
            "maxmemory-policy noeviction",
            f'requirepass "{password}"',
            "",
        ]
    )
