import base64
import hashlib

import pytest

from services.build.analysis.public_values import REPLACED, without_public_values

SHA1, SHA256, SHA512 = (hashlib.new(name, b"x").hexdigest() for name in ("sha1", "sha256", "sha512"))
SRI = {bits: base64.b64encode(hashlib.new(f"sha{bits}", b"x").digest()).decode() for bits in (256, 384, 512)}
WORD = REPLACED.decode()


@pytest.mark.parametrize(
    ("line", "public"),
    [
        ("    resolution: {integrity: sha512-%s}", SRI[512]),  # pnpm
        ('      "integrity": "sha512-%s",', SRI[512]),  # npm-shrinkwrap
        ('<script src="x.js" integrity="sha384-%s"></script>', SRI[384]),
        ("    --hash=sha256:%s", SHA256),  # pip
        ('{ file = "a.whl", hash = "sha256:%s" }', SHA256),  # poetry, uv
        ('checksum = "%s"', SHA256),  # cargo
        ("example.org/mod v1.0.0 h1:%s", SRI[256]),  # go.sum
        ('    "zh:%s",', SHA256),  # terraform
        ("    rev: %s", SHA1),  # pre-commit
        ("      - uses: actions/checkout@%s", SHA1),
        ('  resolved "https://example.org/a.tgz#%s"', SHA1),  # yarn
        ('    "content-hash": "%s",', SHA1[:32]),  # composer
        ('"narHash": "sha256-%s"', SRI[256]),
        ("FROM python:3.13@sha256:%s", SHA256),
        ('revision = "%s"', "1975ea83b712"),  # alembic
        ('down_revision: Union[str, Sequence[str], None] = "%s"', "1975ea83b712"),
        ("Revision ID: %s", "1975ea83b712"),
    ],
)
def test_a_checksum_or_an_id_of_a_commit_or_migration_is_no_secret(line: str, public: str) -> None:
    assert without_public_values("a.txt", (line % public).encode()).decode() == line % WORD


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{SHA1}"',
        f'api_key: "{SHA256}"',
        f'password_hash = "{SHA256}"',
        f'TOKEN="{SRI[256]}"',
        '"integrity": "sha512-hunter2hunter2"',
        'commit: "hunter2hunter2hunter2"',
        'revision = "AKIAIOSFODNN7EXAMPLE"',
        '"id": "1a2b3c4d"',
    ],
)
def test_what_only_looks_like_a_checksum_is_looked_at(line: str) -> None:
    assert without_public_values("a.txt", line.encode()).decode() == line


def test_a_secret_beside_a_checksum_stays_and_so_do_the_lines() -> None:
    text = f'{{"integrity": "sha512-{SRI[512]}",\n "password": "hunter2"}}\n'
    left = without_public_values("a.json", text.encode()).decode()
    assert left == f'{{"integrity": "sha512-{WORD}",\n "password": "hunter2"}}\n'


def test_pictures_and_cells_of_a_notebook_are_no_secrets() -> None:
    text = f'{{"id": "1a2b3c4d", "data": {{"image/png": "{SRI[512]}\\n"}}, "source": "KEY = \\"{SRI[256]}\\""}}'
    left = without_public_values("a.ipynb", text.encode()).decode()
    assert (left.count(WORD), SRI[256] in left, SRI[512] in left) == (2, True, False)
