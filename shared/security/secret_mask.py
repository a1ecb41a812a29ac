"""Creates the mask that hides secret values in all the forms in which they may be printed. Pure."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus

from shared.security.mask import SHORTEST, Mask

WRAPPED = (64, 76)  # characters in a line of base64, as OpenSSL and coreutils write it
SHORTEST_LINE = 8  # of a text of several lines: shorter lines (`{`, `fi`) would be masked everywhere


def mask_of(values: Iterable[str], cleaned: Callable[[str], str] = str) -> Mask:
    """Returns the mask that hides the secret values in all the forms in which tools may print them. `cleaned` is the
    function that the log applies to each line before printing; lines of values are hidden in that form, too.
    """
    both = [forms(value, cleaned) for value in values]
    return Mask((text for found, _ in both for text in found), (text for _, encoded in both for text in encoded))


def forms(value: str, cleaned: Callable[[str], str] = str) -> tuple[set[str], set[str]]:
    """Returns two sets of texts to mask for a secret value; each text has at least 4 characters. The first set holds
    the lines of the value, or, if it has several lines, those of at least 8 characters. The mask finds these also with
    escaped characters. The second set is searched as it is: the value in base64, also wrapped into lines, and, for a
    value of several lines, URL-encoded and as in JSON.
    """
    lines = [line for part in re.split(r"[\r\n]+", value) if (line := part.strip())]
    shortest = SHORTEST if len(lines) == 1 else SHORTEST_LINE
    found = {form for line in lines for form in (line, cleaned(line), " ".join(line.split())) if len(form) >= shortest}
    encoded: set[str] = set()
    if len(whole := value.strip()) >= SHORTEST:
        encoded |= {quote(whole, safe=""), quote(whole), quote_plus(whole), *_base64(whole.encode())}
        encoded |= {json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1]}
    return found, encoded


def _base64(data: bytes) -> Iterator[str]:
    """Yields the data in base64. Also yields the part of it that stays the same if the data is encoded within a longer
    text.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode()
        for before in range(3):
            first, end = -(-8 * before // 6), 8 * (before + len(data)) // 6
            core = encode(bytes(before) + data).decode()[first:end]
            if len(core) >= SHORTEST_LINE:
                yield core
        whole = encode(data).decode()
        for width in WRAPPED if len(whole) > min(WRAPPED) else ():
            lines = [whole[at : at + width] for at in range(0, len(whole), width)]
            yield from (line for line in lines if len(line) >= SHORTEST_LINE)
