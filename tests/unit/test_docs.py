"""The docs: generated pages are current, the README is short, every relative link leads to a file."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import pages

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MOST_WORDS = 700
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_PATH = re.compile(r"`((?:services|shared|stack|bench|tests|docs)/[\w./-]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def relative_links(page: Path) -> Iterator[str]:
    text = _CODE.sub("", _FENCE.sub("", page.read_text()))
    for target in _LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub and mkdocs make them of plain words."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", each) for each in words}


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return pages()


@pytest.mark.parametrize(
    "page",
    [
        "reference/manifest.md",
        "reference/settings.md",
        "reference/rest.md",
        "reference/metrics.md",
        "reference/events.md",
        "decisions/index.md",
    ],
)
def test_a_generated_page_is_what_the_code_says(page: str, generated: dict[str, str]) -> None:
    assert (ROOT / "docs" / page).read_text() == generated[page], "run `make docs` and commit what it writes"


def test_every_generated_page_is_compared(generated: dict[str, str]) -> None:
    assert len(generated) == 6


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= MOST_WORDS


def test_every_relative_link_leads_to_a_file() -> None:
    for page in PAGES:
        for target in relative_links(page):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{name_of(page)} links to {target}"
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), f"{name_of(page)} links to {target}"


def test_every_file_of_the_tree_that_a_page_names_exists() -> None:
    for page in PAGES:
        named = [] if "decisions" in page.parts else _PATH.findall(_FENCE.sub("", page.read_text()))
        assert [path for path in named if not (ROOT / path).exists()] == [], name_of(page)
