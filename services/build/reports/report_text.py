"""Decodes the text of reports: XML, numbers, encodings. Pure."""

import math
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

CLOCK_TOLERANCE = timedelta(seconds=2)
NO_TIME = datetime(1970, 1, 3, tzinfo=UTC)  # programs without a clock write the first moment of 1970, or of year 1
MOST_DIGITS = 15
MOST_RUNS = int(1e15)
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Unreadable(ValueError):
    """Reports that a report is refused. The message is worded to follow the report's name ("is not whole XML")."""


def decoded(data: bytes) -> str:
    """Returns the text of `data`, in the encoding of its byte order mark, else UTF-8. Raises Unreadable."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise Unreadable(f"is not text in {name}; write it in UTF-8") from error


def is_xml(data: bytes) -> bool:
    """Returns True if the first character is `<`, in any encoding."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return decoded(data).lstrip().startswith("<")
    return data.startswith((b"<\0", b"\0<")) or data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def xml_root(data: bytes) -> Element:
    """Returns the root of an XML document in any encoding that it declares; names of elements lose their namespaces.
    Raises Unreadable, also for a document that declares entities.
    """
    try:
        root: Element = fromstring(data, forbid_dtd=False)
    except DefusedXmlException as error:
        raise Unreadable("declares XML entities, which are not read") from error
    except (ParseError, ValueError, LookupError) as error:
        raise Unreadable(f"is not whole XML: {error}") from error
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root


def is_count(text: str) -> bool:
    """Returns True if the text is a number of at most 15 digits, which a float represents exactly."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def runs(text: str, name: str) -> int:
    """Returns the number of runs of a line from a report's text; 0 only if the line did not run. Some tools write
    `1.0`, `1.5e+03`, or more digits than an integer holds. Raises Unreadable, whose message calls the number `name`, if
    the text is no number of runs.
    """
    try:
        count = float(text)
    except ValueError:
        count = -1.0
    if not 0 <= count < float("inf"):  # NaN fails both comparisons
        raise Unreadable(f'says {name}="{text[:40]}", which is not a count')
    return min(math.ceil(count), MOST_RUNS)


def check_not_older(at: datetime, not_before: datetime, tolerance: timedelta) -> None:
    """Raises Unreadable if the report names a time (`at`) before its step began. `at` may be earlier by up to
    `tolerance`.
    """
    if NO_TIME < at < not_before - tolerance:
        raise Unreadable(f"was written at {at.isoformat()}, before its step began: it comes from elsewhere")
