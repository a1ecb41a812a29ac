from datetime import UTC, datetime

import pytest

from services.build.reports.coverage import check_lines, read_coverage
from services.build.reports.report_text import Unreadable

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LINES = '<packages><package><classes><class filename="a.py"><lines>%s</lines></class></classes></package></packages>'
TWO = '<line number="1" hits="3"/><line number="2" hits="0"/>'


def cobertura(lines: str = TWO, attributes: str = "") -> bytes:
    return f"<coverage {attributes}>{LINES % lines}</coverage>".encode()


def test_cobertura_is_counted_by_lines_whatever_its_rate_says() -> None:
    doubled = TWO + '<line number="2" hits="1"/>'
    assert read_coverage(cobertura(attributes='line-rate="1.0"'), START).covered == 1
    assert read_coverage(cobertura(doubled), START).covered == 2


def test_cobertura_with_a_document_type_is_read() -> None:
    declared = b'<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">' + cobertura()
    assert read_coverage(declared, START).lines == 2


def test_lcov_is_counted_by_lines() -> None:
    counted = read_coverage(
        b"TN:\nSF:a.js\nDA:1,1\nDA:2,0,hash\nend_of_record\nSF:b.js\nDA:1,4\nend_of_record\n", START
    )
    assert (counted.lines, counted.covered) == (3, 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (cobertura(""), "holds no coverable line"),
        (cobertura(attributes='timestamp="1767265000000"'), "comes from elsewhere"),
        (cobertura('<line number="1" hits="NaN"/>'), 'says hits="NaN"'),
        (cobertura('<line number="1" hits="-3"/>'), 'says hits="-3"'),
        (cobertura()[:-20], "is not whole XML"),
        (b"<report/>", "is neither Cobertura nor LCOV"),
        (b"", "holds no coverable line"),
        (b"SF:a.js\nDA:1,NaN\nend_of_record", "is not a count"),
        (b"SF:a.js\nDA:1,1\n", "is cut off"),
        (b"DA:1,1\n", "belongs to no file"),
        (b"SF:a.js\nend_of_record\n", "holds no coverable line"),
        (b"\x80", "is not text in UTF-8"),
    ],
)
def test_a_coverage_report_that_does_not_count(text: bytes, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        check_lines([read_coverage(text, START)])
    assert why in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_byte_order_mark_and_utf_16_change_nothing(encoding: str) -> None:
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    assert read_coverage((mark + cobertura().decode()).encode(encoding), START).lines == 2
    assert read_coverage(f"{mark}SF:a.js\nDA:1,1\nend_of_record\n".encode(encoding), START).lines == 1


def test_what_is_not_used_is_not_judged_and_counts_are_read_in_other_forms() -> None:
    rates = cobertura(attributes='line-rate="NaN" branch-rate="0,85"')
    assert read_coverage(rates, START).covered == 1
    forms = ["1.0", "1.5e+03", "18446744073709551616", "0.2"]
    lines = "".join(f'<line number="{number}" hits="{form}"/>' for number, form in enumerate(forms, 1))
    assert read_coverage(cobertura(lines + '<line number="9" hits="0.0"/>'), START).covered == 4
    text = "".join(f"DA:{number},{form}\n" for number, form in enumerate(forms, 1))
    assert read_coverage(f"SF:a.js\n{text}end_of_record\n".encode(), START).covered == 4
