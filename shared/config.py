"""Defines the settings that every service reads from environment variables `SLIPWAY_*`."""

import hashlib
import os
import secrets
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.host.machine import MIB, DiskLimits

ServiceName = Literal["build", "deployer", "monitor", "flags", "proxy"]
Network = IPv4Network | IPv6Network
SERVICES: tuple[ServiceName, ...] = ("build", "deployer", "monitor", "flags", "proxy")


class SharedSettings(BaseSettings):
    """Holds the settings that all services share; each service's `main.py` creates them once. Ports are TCP ports;
    relative paths become absolute.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", extra="ignore")

    home: Path = Field(Path(".slipway"), description="The folder with the platform's data. The docs call it `<home>`.")
    secrets: Path | None = Field(None, description="The folder of `token` and `redis/password`, if not `<home>`.")
    host: str = Field("127.0.0.1", description="The address that the services and Envoy bind to.")
    address: str = Field(
        "",
        description="The host name by which services and apps reach a service; `{service}` stands for its name. "
        "Without it, they use the address that the services bind to.",
    )
    outside: str = Field(
        "", description="The host name in links for people. Without it, links have the address that services bind to."
    )
    token: SecretStr | None = Field(
        None,
        description="The platform's token. Without it, the first start makes one and keeps it in the file `token`.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="The address of Redis. Without a password in it, services read the file `redis/password`.",
    )
    driver: Literal["process", "docker"] = Field(
        "process", description="Where steps and instances run: as processes or as Docker containers."
    )
    stack: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,30})?$",
        description="The name that marks this stack's containers, images, networks and volumes on a Docker Engine. "
        "Without it, the first start makes a random name and keeps it in `<home>/stack`.",
    )
    domain: str = Field("localhost", description="The domain of the apps' host names, `<app>.<domain>`.")
    notify: str = Field("", description="Apprise URLs that get messages about every app, separated by spaces.")
    allow_addresses: str = Field(
        "",
        description="Networks, addresses and host names that sources, forges' APIs, messages, own metrics and hooks "
        "may lead to although they are of the machine or of a private network: `10.0.0.0/8 mail.internal`; `*` allows "
        "all.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of the proxies in front of Envoy, separated by spaces: `10.0.0.7 "
        "192.0.2.0/24`. Apps get the headers X-Forwarded-For, -Proto, -Host and -Port that these send; anybody else's "
        "are set anew.",
    )
    disk_low_mb: int = Field(
        5120,
        ge=0,
        description="The free space in MiB below which the disk of `<home>` is low, which `/ready` and an alert say. "
        "It is not low while more than SLIPWAY_DISK_LOW_PERCENT is free.",
    )
    disk_low_percent: float = Field(
        10, ge=0, le=100, description="The free space in percent below which the disk of `<home>` may be low."
    )
    disk_full_mb: int = Field(
        256,
        ge=0,
        description="The free space in MiB below which the disk of `<home>` counts as full: services are not ready, "
        "and pushes are refused.",
    )
    request_log_mb: int = Field(
        128,
        ge=0,
        description="The largest size in MiB of the log of visitors' requests, `<home>/envoy/requests.log`, with its "
        "older parts. With 0, there is none.",
    )
    request_log_queries: bool = Field(
        False,
        description="Whether the log of visitors' requests has the queries of addresses, in which secrets may be.",
    )
    build_port: int = Field(3000, description="The port of the service build.")
    deployer_port: int = Field(3001, description="The port of the service deployer.")
    monitor_port: int = Field(3002, description="The port of the service monitor.")
    flags_port: int = Field(3003, description="The port of the service flags.")
    proxy_port: int = Field(3004, description="The port of the service proxy.")
    public_port: int = Field(3456, description="Envoy's port that splits visitors between production and canary.")
    https_port: int = Field(
        0, ge=0, le=65535, description="Envoy's port for HTTPS, which splits visitors as the public port does; 0: none."
    )
    production_port: int = Field(50000, description="Envoy's port that leads to production only.")
    canary_port: int = Field(50100, description="Envoy's port that leads to the canary only.")

    proxy_protocol_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Envoy's port for balancers of SLIPWAY_TRUSTED_PROXIES that begin each connection with the address "
        "of the client (PROXY protocol). It splits visitors as the public port does, and takes TLS, too, if "
        "SLIPWAY_HTTPS_PORT is set. 0: none.",
    )

    @field_validator("home", "secrets")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return folder and folder.absolute()

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for each in text.split():
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(f"{error}. Write addresses or networks, such as `10.0.0.7 192.0.2.0/24`") from error
        return text

    @model_validator(mode="after")
    def _proxies_of_the_port(self) -> Self:
        if self.proxy_protocol_port and not self.trusted_networks:
            raise ValueError(
                "SLIPWAY_PROXY_PROTOCOL_PORT needs SLIPWAY_TRUSTED_PROXIES, the addresses of the balancers that may "
                "connect to it"
            )
        return self

    @property
    def trusted_networks(self) -> list[Network]:
        """Returns the networks of the trusted proxies in front of Envoy."""
        return [ip_network(each) for each in self.trusted_proxies.split()]

    @property
    def envoy_ports(self) -> dict[str, int]:
        """Returns the ports on which Envoy listens, by the environment variable that sets each."""
        optional = {"SLIPWAY_HTTPS_PORT": self.https_port, "SLIPWAY_PROXY_PROTOCOL_PORT": self.proxy_protocol_port}
        return {
            "SLIPWAY_PUBLIC_PORT": self.public_port,
            **{name: port for name, port in optional.items() if port},
            "SLIPWAY_PRODUCTION_PORT": self.production_port,
            "SLIPWAY_CANARY_PORT": self.canary_port,
        }

    @property
    def disk_limits(self) -> DiskLimits:
        return DiskLimits(self.disk_low_mb * MIB, self.disk_low_percent / 100, self.disk_full_mb * MIB)

    def port(self, service: ServiceName) -> int:
        """Returns the TCP port on which the service listens."""
        port: int = getattr(self, f"{service}_port")
        return port

    def url(self, service: ServiceName) -> str:
        """Returns the address that the settings give for a service, `http://host:port`. If the registry has an address
        of the service, callers should prefer that address.
        """
        host = self.address.format(service=service) if self.address else self.host
        return f"http://{host}:{self.port(service)}"

    def outside_url(self, service: ServiceName) -> str:
        """Returns the address of a service for people, as in links and for git: `http://host:port`."""
        return f"http://{self.outside or self.host}:{self.port(service)}"

    def platform_token(self) -> str:
        """Returns `SLIPWAY_TOKEN` or, if that is not set, the content of the file `token` in the folder `secrets`
        (without that setting, in `home`). Creates the file with mode 0600 if it is missing.
        """
        if self.token is not None and self.token.get_secret_value():
            return self.token.get_secret_value()
        return secret_file((self.secrets or self.home) / "token")

    def stack_id(self) -> str:
        """Returns the id that marks this stack's objects on a Docker Engine: `SLIPWAY_STACK` or, if that is not set, 12
        hex digits derived from the file `<home>/stack`. Creates the file if it is missing. Two stacks on one engine
        need different ids.
        """
        return self.stack or hashlib.sha256(secret_file(self.home / "stack").encode()).hexdigest()[:12]

    def redis_connection_url(self) -> str:
        """Returns `redis_url`. If that has no password and the file `redis/password` exists, adds the password from the
        file.
        """
        parts = urlsplit(self.redis_url)
        kept = (self.secrets or self.home) / "redis" / "password"
        if parts.password or not kept.exists():
            return self.redis_url
        netloc = f":{quote(kept.read_text().strip(), safe='')}@{parts.netloc}"
        return urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))


def secret_file(path: Path) -> str:
    """Returns the secret in the file `path`. If the file is missing, creates it with a random secret and mode 0600; if
    two processes do so at once, both return the same secret. Raises OSError if it can be neither read nor created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(fresh, path)  # fails if another process was first; nobody ever sees a half-written file
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()
