import random

import pytest

from services.build.logs.mask import FEW, Mask

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
