"""A certificate that a person sets is checked against its host, key and chain."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.proxy.certificates.certificate_check import check_certificate, covers
from shared.errors import Invalid
from tests.support.proxy.authority import DAY, Authority, Issued, key_pem, new_key

HOST = "notes.example.com"
NOW = datetime.now(UTC)
AUTHORITY = Authority()
GOOD = AUTHORITY.issue(HOST, "www.example.com")


def first(chain: str) -> str:
    return chain[: chain.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")]


def test_a_good_certificate_is_read() -> None:
    found = check_certificate(GOOD.chain, GOOD.key, HOST, NOW)

    assert (found.chain, found.key) == (GOOD.chain, GOOD.key)
    assert (found.names, found.issuer) == ([HOST, "www.example.com"], "Test Intermediate")
    assert found.not_after - found.not_before == DAY
    assert len(found.fingerprint) == 64


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())], ids=["RSA", "P-384"]
)
def test_the_usual_kinds_of_keys_are_accepted(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    issued = AUTHORITY.issue(HOST, key=key, begins=NOW)

    assert check_certificate(issued.chain, issued.key, HOST, NOW).names == [HOST]


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        (Issued("", GOOD.key), "chain", "holds no certificates in PEM"),
        (Issued(GOOD.key, GOOD.key), "chain", "holds no certificates in PEM"),
        (Issued(GOOD.chain * 6, GOOD.key), "chain", "12 certificates; give at most 10"),
        (Issued(first(GOOD.chain) + Authority("Other").root, GOOD.key), "chain", "1 was not issued by the next one"),
        (AUTHORITY.issue("other.example.com"), "chain", f"is not for {HOST}, but for other.example.com"),
        (AUTHORITY.issue("a.b.example.com", "*.b.example.com"), "chain", f"is not for {HOST}, but for a.b"),
        (AUTHORITY.issue(HOST, begins=NOW - 2 * DAY), "chain", "expired at"),
        (AUTHORITY.issue(HOST, begins=NOW + timedelta(hours=1)), "chain", "is valid only from"),
        (Issued(GOOD.chain, key_pem(new_key())), "key", "does not belong to the first certificate"),
        (Issued(GOOD.chain, GOOD.chain), "key", "holds no private key in PEM"),
        (Issued(GOOD.chain, key_pem(new_key(), b"secret")), "key", "has a passphrase; remove it"),
        (Issued(GOOD.chain, key_pem(rsa.generate_private_key(65537, 1024))), "key", "RSA keys of at least 2048 bits"),
    ],
)
def test_a_faulty_one_is_refused_with_its_field_and_the_remedy(given: Issued, field: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_certificate(given.chain, given.key, HOST, NOW)

    assert [error["field"] for error in refused.value.extra["errors"]] == [field]
    assert words in refused.value.detail
    assert "PRIVATE KEY-----\nMI" not in refused.value.detail


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("notes.example.com", "notes.example.com", True),
        ("*.example.com", "notes.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.notes.example.com", False),
        ("notes.example.com", "*.example.com", False),
        ("*", "localhost", False),
        ("*.com", "*.example.com", False),
    ],
)
def test_a_wildcard_is_for_one_label(name: str, host: str, expected: bool) -> None:
    assert covers(name, host) is expected
