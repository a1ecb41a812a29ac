from pathlib import Path

import pytest

from services.build.analysis.lizard_tool import comment_lines, functions

BRANCHES = "".join(f"  if (x === {number}) return {number};\n" for number in range(20))
TYPES = """\
interface Options { a?: number; b?: string; run: (x: number) => void }
type Pick<T> = T extends string ? { a: T } : never;
"""


def measured(tmp_path: Path, name: str, source: str) -> dict[str, int]:
    path = tmp_path / name
    path.write_text(source)
    return {each.name: each.complexity for each in functions(str(path))}


@pytest.mark.parametrize(
    ("file", "head"),
    [
        ("a.ts", "export function pick<T extends Record<string, unknown>>(x: T): Promise<Array<T>> {"),
        ("a.ts", "export function pick<T extends object>(x: T): { a: number } | null {"),
        ("a.ts", "class A { pick<T extends { a: string }>(x: T): Promise<{ a: T }> {"),
        ("a.tsx", "export function pick<T extends object>({ x }: { x: T }) {"),
        ("a.js", "async function* pick(x) {"),
    ],
)
def test_a_function_counts_whatever_its_head_looks_like(tmp_path: Path, file: str, head: str) -> None:
    end = "}}" if head.startswith("class") else "}"
    assert measured(tmp_path, file, f"{TYPES if file != 'a.js' else ''}{head}\n{BRANCHES}{end}\n")["pick"] == 21


def test_what_is_no_function_counts_as_none(tmp_path: Path) -> None:
    block = f"if (x) {{\n{BRANCHES}}}\nfor (const a of b) {{\n{BRANCHES}}}\nconst c = {{ a: 1 }};\n"
    assert max(measured(tmp_path, "a.ts", TYPES + block).values(), default=0) <= 1


def test_a_file_on_which_lizard_breaks_is_measured_by_its_braces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, path: str) -> None:
        raise IndexError

    monkeypatch.setattr("lizard.FileAnalyzer.__call__", broken)
    assert measured(tmp_path, "a.ts", f"function pick(x) {{\n{BRANCHES}}}\n") == {"pick": 21}
    with pytest.raises(IndexError):
        measured(tmp_path, "a.py", "def f(): pass\n")


@pytest.mark.parametrize(
    ("name", "source", "lines"),
    [
        ("a.py", '#!/usr/bin/python\n"""Doc\nmore."""\n\n# why\n####\nx = 1  # too\ny = "# no"\n', (4, 2)),
        ("a.js", "/* one\n *\n * two */\nlet x = 1; // three\n", (3, 1)),
        ("a.c", "#include <x.h>\n// one\nint x;\n", (1, 2)),
        ("a.go", "package a\n", (0, 1)),
        ("a.py", "", (0, 0)),
    ],
)
def test_lines_with_comments_and_with_code_are_counted(
    tmp_path: Path, name: str, source: str, lines: tuple[int, int]
) -> None:
    (tmp_path / name).write_text(source)
    assert comment_lines(str(tmp_path / name)) == lines
