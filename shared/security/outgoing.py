"""Guards the addresses that a service calls because a commit, an app or a client names them: notify URLs, sources, APIs
of forges. Addresses on the internet may be called. Addresses of the machine, of private networks and of the platform
itself are refused, unless the operator allows them (`SLIPWAY_ALLOW_ADDRESSES`); otherwise a commit could reach what
only the platform can reach. A host name is resolved first, then its addresses are checked, and the call goes to exactly
these addresses.
"""

import asyncio
import contextlib
import functools
import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx
import psutil

Address = IPv4Address | IPv6Address
ANY = "*"
NAT64 = ip_network("64:ff9b::/96")
RESOLVE_S = 10.0


class AddressRefused(Exception):
    """Reports that an address may not be called. The message names the address and the remedy."""


class NoAddress(AddressRefused):
    """Reports that a host name has no address, or that none was found in time."""


class AddressGuard:
    """Decides which addresses may be called. `allowed` holds networks (`10.0.0.0/8`), addresses and host names,
    separated by commas or spaces; `*` allows all addresses. The constructor raises ValueError for anything else.
    """

    def __init__(self, allowed: str = "") -> None:
        self._networks: list[IPv4Network | IPv6Network] = []
        self._names: set[str] = set()
        for entry in allowed.replace(",", " ").split():
            if any(sign in entry for sign in ":/") or entry.replace(".", "").isdecimal():
                self._networks.append(ip_network(entry))
            else:
                self._names.add(entry.lower())

    def allows(self, address: Address) -> bool:
        """Returns True if this address may be called."""
        if ANY in self._names or any(address in network for network in self._networks):
            return True
        inner = _inner(address)
        if inner is not None:
            return self.allows(inner)
        return address.is_global and not address.is_multicast and str(address) not in _own()

    def check(self, host: str) -> None:
        """Raises AddressRefused if `host` is an address, in any notation, that may not be called, or a name of this
        machine. Other names are checked when they are resolved.
        """
        bare = host.strip("[]").rstrip(".").lower()
        if bare in self._names:
            return
        if bare == "localhost" or bare.endswith(".localhost"):
            bare = "127.0.0.1"
        try:
            address = _literal(bare)
        except ValueError:
            return
        if not self.allows(address):
            raise _refused(host, address)

    async def resolve(self, host: str, port: int) -> list[str]:
        """Returns the addresses of the host, after a check that each of them may be called. Raises AddressRefused if
        one may not be, and NoAddress if there is none. Waits up to 10 s.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # TimeoutError is a subclass of OSError
            raise NoAddress(f"{host} has no address: {error or 'no answer'}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if host.lower() not in self._names:
            for each in addresses:
                if not self.allows(address := ip_address(each.partition("%")[0])):
                    raise _refused(host, address)
        return addresses

    @contextlib.contextmanager
    def guarding(self) -> Iterator[list[str]]:
        """Refuses, within the block, every connection that this thread opens to an address that may not be called, also
        after a redirect. A refused connection raises PermissionError in the library that opens it. Yields a list to
        which the reasons are appended. It is meant for libraries that open connections by themselves.
        """
        _install_hook()
        refused: list[str] = []

        def check(host: str) -> None:
            try:
                self.check(host)
            except AddressRefused as error:
                refused.append(str(error))
                raise PermissionError(str(error)) from error

        _guards.check = check
        try:
            yield refused
        finally:
            _guards.check = None


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends HTTP requests only to addresses that the guard has checked: it resolves a host name once, and connects to
    the result. Raises httpx.ConnectError if the guard refuses the address.
    """

    def __init__(self, guard: AddressGuard, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._guard = guard
        # A kept connection would serve every host of its address, whatever host its certificate was checked for.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = inner or httpx.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        try:
            addresses = await self._guard.resolve(host, request.url.port or 443)
        except AddressRefused as error:
            raise httpx.ConnectError(str(error), request=request) from error
        request.extensions = {**request.extensions, "sni_hostname": host}  # the certificate must be the host's
        request.url = request.url.copy_with(host=addresses[0])
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


_guards = threading.local()
_SENDING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


@functools.cache
def _install_hook() -> None:
    """Installs, once for the process, an audit hook that checks each address to which a guarded thread connects: only
    an audit hook sees the connections of every library. Python cannot remove the hook again.
    """

    def on_event(event: str, arguments: tuple[object, ...]) -> None:
        if event in _SENDING and (check := getattr(_guards, "check", None)) is not None:
            address = arguments[-1]
            if isinstance(address, tuple):  # otherwise a unix socket's path, or nothing
                check(str(address[0]))
            elif address is not None:
                raise PermissionError("only addresses of the network may be called")

    sys.addaudithook(on_event)


def _literal(host: str) -> Address:
    """Returns the address that the text `host` stands for, also in forms that C libraries accept: `127.1`, `0x7f.1` or
    `2130706433`. Raises ValueError if it is not an address.
    """
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        if not host or not all(part[:1].isdecimal() for part in host.split(".")):
            raise
        try:
            return IPv4Address(socket.inet_aton(host))
        except OSError as error:
            raise ValueError(str(error)) from error


def _inner(address: Address) -> Address | None:
    """Returns the IPv4 address to which packets for the IPv6 address go (mapped, 6to4 or NAT64); None if there is
    none.
    """
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _own() -> set[str]:
    return {each.address.partition("%")[0] for found in psutil.net_if_addrs().values() for each in found}


def _refused(host: str, address: Address) -> AddressRefused:
    shown = f"{host} ({address})" if host.strip("[]") != str(address) else host
    return AddressRefused(
        f"{shown} is an address of the machine, of the platform or of a private network, which nothing may call; "
        "the operator can allow it by SLIPWAY_ALLOW_ADDRESSES"
    )
