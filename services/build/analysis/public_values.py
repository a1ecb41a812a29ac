"""Finds values in files that look like secrets but are public: checksums, and ids of commits, database migrations and
notebook cells. Pure.
"""

import re

REPLACED = b"public-by-its-form"
_HEX = frozenset({32, 40, 56, 64, 96, 128})  # digits of MD5, SHA-1, SHA-224 to SHA-512
_BASE64 = frozenset({24, 28, 40, 44, 88})  # lengths of the same digests in base64, with padding
_SHA384 = 64  # SHA-384 in base64 has no padding
_VALUE = rb"(?P<value>[A-Za-z0-9+/_-]{12,128}={0,2})"
_NAMED = re.compile(  # sha512-…, --hash=sha256:…, h1:…
    rb"(?P<head>\b(?:sha-?(?:1|224|256|384|512)|md5|blake2[bs]|h1|zh)[-:=])" + _VALUE, re.IGNORECASE
)
_FIELD = re.compile(  # "integrity": "…", checksum = "…", rev: …
    rb"""(?P<head>(?<![\w-])["']?(?:integrity|checksum|(?:content[-_]?)?hash|shasum|sha-?(?:1|224|256|384|512)|md5|digest|etag
    |rev|revision|ref|reference|commit|git_?head|nar_?hash)["']?\s{0,9}(?:=>|[:=])\s{0,9}["']?)"""
    + _VALUE,
    re.IGNORECASE | re.VERBOSE,
)
_REVISION = re.compile(  # of Alembic: revision: str = "1975ea83b712"
    rb"""(?P<head>^(?:down_)?revision\b[^=\n]{0,80}=\s{0,9}["'])(?P<value>[0-9a-f]{12})(?=["'])"""
    rb"""|(?P<head2>^Revis(?:ion ID|es): )(?P<value2>[0-9a-f]{12})\b""",
    re.MULTILINE,
)
_COMMIT = re.compile(rb"(?P<head>[@#])(?P<value>[0-9a-f]{40})\b")  # uses: actions/checkout@…, git+https://…#…
_IMAGE = re.compile(
    rb"""(?P<head>"image/(?:png|jpeg|gif)":\s{0,9}")(?P<value>[A-Za-z0-9+/=\\n]{12,})(?=")"""
)  # of a Jupyter notebook
_CELL = re.compile(rb"""(?P<head>"id":\s{0,9}")(?P<value>[0-9a-f]{8}(?:-[0-9a-f]{4}){0,3}(?:-[0-9a-f]{12})?)(?=")""")


def without_public_values(name: str, data: bytes) -> bytes:
    """Returns the content of the file `name` with each public value (a checksum or an id) replaced by fixed text. A
    value counts as public only by its form together with the text before it on its line. All other bytes stay as they
    are.
    """
    for pattern in (_NAMED, _FIELD):
        data = pattern.sub(_digest, data)
    data = _REVISION.sub(_whole, data)
    data = _COMMIT.sub(_whole, data)
    if name.endswith(".ipynb"):
        data = _IMAGE.sub(_whole, _CELL.sub(_whole, data))
    return data


def _digest(match: re.Match[bytes]) -> bytes:
    value = match["value"]
    digits = bytes(value).lower()
    is_hex = len(value) in _HEX and not digits.strip(b"0123456789abcdef")
    is_base64 = (len(value) in _BASE64 and value.endswith(b"=")) or (len(value) == _SHA384 and b"384" in match["head"])
    return match["head"] + REPLACED if is_hex or is_base64 else match[0]


def _whole(match: re.Match[bytes]) -> bytes:
    return next(group for group in match.groups() if group is not None) + REPLACED
