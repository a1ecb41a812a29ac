import html
import json
import random
import shlex
from urllib.parse import quote, quote_plus, urlencode

import pytest

from shared.security.mask import FEW, Mask

OTHERS = [f"?other-{number}" for number in range(FEW)]  # with these there are many, which are looked for in another way


@pytest.mark.parametrize("others", [[], OTHERS], ids=["few", "many"])
@pytest.mark.parametrize(
    ("hidden", "text", "expected"),
    [
        ([], "nothing", "nothing"),
        (["abcd"], "xabcdx abc abcd", "x***x abc ***"),
        (["abcd"], "abcdabcd", "******"),
        (["abcd", "abcdef"], "abcdef abcde", "*** ***e"),
        (["abcd", "xxabcdxx"], "xxabcdxx", "***"),
        (["abcd", "cdef"], "-abcdef-", "-***-"),
        (["abcdefgh", "bcde", "ghij"], "abcdefghij", "***"),
        (["aaaa"], "aaaaa-aaa", "***-aaa"),
        ([".*[a", "a|b)"], "x .*[a y a|b) aaaa", "x *** y *** aaaa"),
        (["pässwörd"], "ein pässwörd!", "ein ***!"),
        (["ABCD"], "abcd", "abcd"),
        (["two words"], "two words, two  words", "***, two  words"),
    ],
)
def test_what_is_hidden(hidden: list[str], text: str, expected: str, others: list[str]) -> None:
    assert Mask([*hidden, *others])(text) == expected


PASSWORD = "p!ss@w0rd'(x)* /ü\\\"&<"


@pytest.mark.parametrize(
    "printed",
    [
        quote(PASSWORD, safe=""),
        quote(PASSWORD, safe="").replace("%2F", "%2f").replace("%C3%BC", "%c3%bc"),
        quote(PASSWORD, safe="!'()*"),  # JavaScript's encodeURIComponent
        quote(PASSWORD, safe="/!'()*@&"),
        quote_plus(PASSWORD),
        urlencode({"p": PASSWORD}).removeprefix("p="),
        json.dumps(PASSWORD)[1:-1],
        json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
        json.dumps(PASSWORD)[1:-1].replace("&", r"\u0026").replace("<", r"\u003C").replace("/", r"\/"),  # Go's, PHP's
        json.dumps(json.dumps(PASSWORD))[3:-3],
        shlex.quote(PASSWORD)[1:-1],
        PASSWORD.replace("'", r"'\''"),
        "".join(each if each.isalnum() else f"\\{each}" for each in PASSWORD),  # printf %q
        html.escape(PASSWORD),
        "".join(f"&#{ord(each)};" if not each.isalnum() else each for each in PASSWORD),
        repr(PASSWORD.encode())[2:-1],
        PASSWORD.replace("ü", r"\303\274"),
    ],
)
@pytest.mark.parametrize("others", [[], OTHERS], ids=["few", "many"])
def test_a_value_is_hidden_as_tools_print_it(printed: str, others: list[str]) -> None:
    assert Mask([PASSWORD, *others])(f"<{printed}>") == "<***>"


@pytest.mark.parametrize("text", ["p!ss@w0rd", "p%21ss%41w0rd%27%28x%29%2A", "p ss w0rd (x)  u"])
def test_what_only_resembles_a_value_is_shown(text: str) -> None:
    assert Mask([PASSWORD])(text) == text


def test_many_are_told_apart() -> None:
    names = [f"{first}{number:05}" for first in "abcxyz-.$é" for number in range(300)]
    mask = Mask(names)
    assert mask(" ".join(names)) == " ".join(["***"] * len(names))
    assert mask("a0030 b99999 q00001") == "a0030 b99999 q00001"


@pytest.mark.parametrize(
    ("text", "at"), [("", 0), ("ab", 0), ("abcdef12", 6), ("-----abcdef", 5), ("abcdefghijklmnop", 10)]
)
def test_a_text_that_goes_on_is_cut_where_nothing_hidden_is(text: str, at: int) -> None:
    assert Mask(["abcdef"]).cut(text) == at
    assert Mask().cut(text) == len(text)


@pytest.mark.parametrize("others", [[], OTHERS], ids=["few", "many"])
def test_a_text_may_be_masked_in_pieces(others: list[str]) -> None:
    mask, dice = Mask(["abcabd", "eeef", *others]), random.Random(7)
    for _ in range(1000):
        text = "".join(dice.choices(["abcabd", "eeef", "abca", "ee", "-"], k=6))
        at = mask.cut(text[: dice.randrange(len(text) + 1)])
        assert mask(text[:at]) + mask(text[at:]) == mask(text)
