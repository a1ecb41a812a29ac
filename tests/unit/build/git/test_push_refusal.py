"""The beginning of a push's body decides whether it can be refused in git's own protocol."""

import io

import pytest

from services.build.git.push_refusal import refs_of

OLD, NEW = b"0" * 40, b"1" * 40
ABLE = b" report-status-v2 side-band-64k agent=git/2.39"


def packets(*lines: bytes) -> bytes:
    return b"".join(b"%04x" % (len(line) + 4) + line for line in lines)


def command(ref: bytes, abilities: bytes = b"") -> bytes:
    return OLD + b" " + NEW + b" " + ref + (b"\0" + abilities if abilities else b"")


@pytest.mark.parametrize(
    ("body", "refs"),
    [
        (packets(command(b"refs/heads/a", ABLE)) + b"0000PACK", [b"refs/heads/a"]),
        (
            packets(command(b"refs/heads/a b", ABLE), command(b"refs/tags/c")) + b"0000",
            [b"refs/heads/a b", b"refs/tags/c"],
        ),
        (packets(b"shallow " + NEW, command(b"refs/heads/a", b"report-status side-band-64k")), [b"refs/heads/a"]),
        (packets(command(b"refs/heads/a", b"report-status")) + b"0000", None),
        (packets(command(b"refs/heads/a", b"side-band-64k")) + b"0000", None),
        (packets(b"want " + NEW + b" side-band-64k"), None),
        (b"\x1f\x8b" + bytes(64), None),
        (b"zzzz", None),
        (b"ffffrefs", None),
        (b"0003", None),
        (b"", None),
    ],
)
def test_the_refs_of_a_push_whose_client_can_hear_of_them(body: bytes, refs: list[bytes] | None) -> None:
    assert refs_of(io.BytesIO(body)) == refs
