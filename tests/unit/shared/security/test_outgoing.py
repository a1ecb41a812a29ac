"""Addresses that commits and clients make the platform call."""

from ipaddress import ip_address

import httpx
import pytest

from shared.security.outgoing import AddressGuard, AddressRefused, GuardedTransport, NoAddress

pytestmark = pytest.mark.anyio

REFUSED = [
    *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.17.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_of_machine_and_private_networks_are_refused(address: str) -> None:
    assert not AddressGuard().allows(ip_address(address))
    with pytest.raises(AddressRefused, match="SLIPWAY_ALLOW_ADDRESSES"):
        AddressGuard().check(address)
    assert AddressGuard("*").allows(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.112.3", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_fine(address: str) -> None:
    assert AddressGuard().allows(ip_address(address))
    AddressGuard().check(address)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.1", "2130706433", "0x7f.1", "[::1]"])
def test_the_machine_is_found_under_its_other_names(host: str) -> None:
    with pytest.raises(AddressRefused):
        AddressGuard().check(host)
    AddressGuard("127.0.0.0/8 ::1").check(host)


def test_a_name_is_checked_when_it_is_resolved() -> None:
    AddressGuard().check("forge.example")


@pytest.mark.parametrize("allowed", ["10.0.0.0/8", "192.168.0.0/16, 10.1.2.3", "10.1.2.3 mail.internal"])
def test_the_operator_allows_networks_and_addresses(allowed: str) -> None:
    assert AddressGuard(allowed).allows(ip_address("10.1.2.3"))
    assert not AddressGuard(allowed).allows(ip_address("127.0.0.1"))


@pytest.mark.parametrize("allowed", ["10.0.0.0/33", "10.0.0.1/8", "300.1.1.1", "::1::"])
def test_what_is_no_network_is_said(allowed: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has host bits set|not permitted|Octet"):
        AddressGuard(allowed)


async def test_a_name_that_leads_to_the_machine_is_refused_and_one_that_is_allowed_is_not() -> None:
    with pytest.raises(AddressRefused, match=r"^localhost \((127\.0\.0\.1|::1)\) is an address of the machine"):
        await AddressGuard().resolve("localhost", 80)
    assert set(await AddressGuard("localhost").resolve("localhost", 80)) <= {"127.0.0.1", "::1"}
    with pytest.raises(NoAddress, match=r"nowhere\.invalid has no address"):
        await AddressGuard().resolve("nowhere.invalid", 80)


async def test_a_request_goes_to_the_address_that_was_checked_and_keeps_its_host() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    guarded = GuardedTransport(AddressGuard("localhost"), httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=guarded) as client:
        assert (await client.get("http://localhost:8001/status")).status_code == 204
    assert seen[0].url.host in ("127.0.0.1", "::1")
    assert (seen[0].headers["host"], seen[0].extensions["sni_hostname"]) == ("localhost:8001", "localhost")
    refused = GuardedTransport(AddressGuard(), httpx.MockTransport(answer))
    async with httpx.AsyncClient(transport=refused) as client:
        with pytest.raises(httpx.ConnectError, match="SLIPWAY_ALLOW_ADDRESSES"):
            await client.get("http://localhost:8001/status")
    assert len(seen) == 1
