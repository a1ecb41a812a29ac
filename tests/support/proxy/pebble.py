"""Let's Encrypt's test server, on loopback."""

import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port, wait_for_port
from tests.support.proxy.authority import Authority, write_pair

NO_CHECK_TIME = 0x200000  # of OpenSSL, X509_V_FLAG_NO_CHECK_TIME


class Pebble:
    """Issues certificates that last `lasts_s` seconds, and asks hosts at `http_port`. `ca` is the file with the root of
    its own address.
    """

    def __init__(self, folder: Path, http_port: int, lasts_s: int) -> None:
        if shutil.which("pebble") is None and "CI" not in os.environ:
            pytest.skip("Debian's package pebble is missing")
        folder.mkdir()
        authority, self._port, self._management = Authority("Pebble"), free_port(), free_port()
        chain, key = write_pair(folder, authority.issue("localhost"))
        self.ca = folder / "ca.pem"
        self.ca.write_text(authority.root)
        self._log = folder / "log"
        self._config = folder / "config.json"
        config = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management}",
            "certificate": str(chain),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "certificateValidityPeriod": lasts_s,
        }
        self._config.write_text(json.dumps({"pebble": config}))
        self._start()
        self._root = httpx.get(
            f"https://localhost:{self._management}/roots/0", verify=ssl.create_default_context(cadata=authority.root)
        ).text

    def _start(self) -> None:
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["pebble", "-config", str(self._config)], env=environment, stdout=log, stderr=log
            )
        for port in (self._port, self._management):
            wait_for_port(port)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    @property
    def directory(self) -> str:
        return f"https://localhost:{self._port}/dir"

    def context(self, *, whenever: bool = False) -> ssl.SSLContext:
        """Returns the settings of a visitor that trusts the certificates of this authority alone; with `whenever` also
        those that have expired.
        """
        context = ssl.create_default_context(cadata=self._root)
        if whenever:
            context.verify_flags |= NO_CHECK_TIME
        return context

    def count(self, what: str) -> int:
        """Returns how many `accounts` or `orders` it has got."""
        words = {"accounts": "accounts in memory", "orders": "orders in the db"}[what]
        return sum(words in line for line in self._log.read_text().splitlines())
