"""Configuration of Redis, for every way to run the stack."""

from pathlib import Path


def redis_conf(host: str, port: int, folder: Path, password: str) -> str:
    """Returns `redis.conf`: each acknowledged write is on disk before its answer; no eviction; a password."""
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
