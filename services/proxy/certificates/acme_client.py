"""Speaks with a certificate authority by ACME (RFC 8555), with the challenge HTTP-01. The library `acme` blocks, so
each function here runs in a thread.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwa import ES256
from josepy.jwk import JWKEC

ANSWER_S = 15
FINISH_S = 60


class AcmeFailure(Exception):
    """Reports why a certificate could not be got. The text is for people."""


class AccountUnknown(AcmeFailure):
    """Reports that the authority does not know the account any more."""


class AcmeAccount(NamedTuple):
    """Identifies the platform at the authority. `key` is in PEM; `uri` is empty until the account is registered."""

    key: str
    uri: str


class AcmeOrder(NamedTuple):
    """Holds an order of one host's certificate that was begun. `answers` holds token → what the host must answer."""

    order: Any
    challenges: list[Any]
    answers: dict[str, str]
    key: str
    """The new certificate's key in PEM."""
    account: AcmeAccount


class AcmeClient:
    """Calls the authority whose directory is at `directory`. Its certificate must be of an authority in the file `ca`,
    or of a public one. Each method raises AcmeFailure.
    """

    def __init__(self, directory: str, ca: Path | None) -> None:
        self._directory = directory
        self._ca = ca

    def register(self, key: str, email: str) -> AcmeAccount:
        """Registers the key, and agrees to the authority's terms. Returns the account that exists if the key was
        registered before.
        """
        try:
            terms = messages.NewRegistration.from_data(email=email or None, terms_of_service_agreed=True)
            try:
                return AcmeAccount(key, self._client(AcmeAccount(key, "")).new_account(terms).uri)
            except errors.ConflictError as known:
                return AcmeAccount(key, known.location)
        except Exception as error:
            raise _failure(error) from error

    def begin(self, account: AcmeAccount, host: str) -> AcmeOrder:
        """Orders a certificate for the host."""
        key = new_key()
        try:
            acme = self._client(account)
            order = acme.new_order(_request(key, host))
            pending = [
                each
                for authorization in order.authorizations
                if authorization.body.status != messages.STATUS_VALID
                for each in authorization.body.challenges
                if isinstance(each.chall, challenges.HTTP01)
            ]
            answers = {each.chall.encode("token"): each.chall.validation(acme.net.key) for each in pending}
            return AcmeOrder(order, pending, answers, key, account)
        except Exception as error:
            raise _failure(error) from error

    def finish(self, given: AcmeOrder) -> str:
        """Lets the authority ask the host for the answers, which must be there, and returns the certificate with its
        chain in PEM. Waits up to 60 s.
        """
        try:
            acme = self._client(given.account)
            for each in given.challenges:
                acme.answer_challenge(each, each.chall.response(acme.net.key))
            deadline = datetime.now() + timedelta(seconds=FINISH_S)
            return str(acme.poll_and_finalize(given.order, deadline).fullchain_pem)
        except Exception as error:
            raise _failure(error) from error

    def _client(self, account: AcmeAccount) -> client.ClientV2:
        key = JWKEC(key=serialization.load_pem_private_key(account.key.encode(), password=None))
        known = messages.RegistrationResource(body=messages.Registration(), uri=account.uri) if account.uri else None
        net = client.ClientNetwork(
            key,
            account=known,
            alg=ES256,
            verify_ssl=str(self._ca) if self._ca else True,  # type: ignore[arg-type]
            user_agent="slipway",
            timeout=ANSWER_S,
        )
        return client.ClientV2(client.ClientV2.get_directory(self._directory, net), net)


def new_key() -> str:
    """Returns a new key (P-256) in PEM."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _request(key: str, host: str) -> bytes:
    """Returns the request for a certificate (CSR) in PEM."""
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    private = serialization.load_pem_private_key(key.encode(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _failure(error: Exception) -> AcmeFailure:
    if isinstance(error, errors.ValidationError):
        said = [
            str(each.error.detail)
            for authorization in error.failed_authzrs
            for each in authorization.body.challenges
            if each.error is not None
        ]
        return AcmeFailure(f"the authority could not check the host: {'; '.join(said)}")
    if isinstance(error, messages.Error) and error.code == "accountDoesNotExist":
        return AccountUnknown("the authority does not know the account any more; it is registered again")
    if isinstance(error, messages.Error):
        return AcmeFailure(f"the authority refused ({error.code or error.typ}): {error.detail}")
    if isinstance(error, errors.TimeoutError):
        return AcmeFailure(f"the authority did not finish within {FINISH_S} s")
    if isinstance(error, OSError | ValueError):  # the library's errors of the network
        return AcmeFailure(f"the authority does not answer ({type(error).__name__}); look at SLIPWAY_ACME_DIRECTORY")
    return AcmeFailure(f"the authority answered what is no ACME ({type(error).__name__}: {error})")
