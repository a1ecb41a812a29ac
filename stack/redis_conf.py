"""Creates the configuration of Redis, for every way to run the stack."""

from pathlib import Path


def redis_conf(host: str, port: int, folder: Path, password: str) -> str:
    """Returns `redis.conf`. By it, writes are on disk before they are answered, no key is evicted, and a password is
    required.
    """
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
