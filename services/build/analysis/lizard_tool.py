"""Measures the functions of a folder with lizard. It runs as a program of its own and imports nothing of the platform.
Its arguments are the folder, a file with a JSON list of the paths to skip, and the word `comments` if lines with
comments are to be counted. It prints lines of JSON: `[complexity, lines, path, first line, name]` for each function;
`{"unread": path, "error": name of the exception}` for each file on which lizard breaks; `{"left_out": path}` for each
file of the list that lizard could read; with `comments`, also `{"comments": [lines with comments, lines of code,
path]}` for each file that is not left out. In JavaScript, TypeScript, PHP, Kotlin and Rust, lizard misses some
functions, for example components; this program finds those by their braces and counts their branches itself.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lizard
from lizard_languages import get_reader_for
from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, String
from pygments.util import ClassNotFound

BY_BRACES = {".js", ".cjs", ".mjs", ".jsx", ".ts", ".tsx", ".php", ".kt", ".kts", ".rs"}
BRANCHES = {"if", "for", "foreach", "while", "case", "catch", "&&", "||", "elseif"}
HEADS = BRANCHES | {"switch", "with", "match", "when", "return", "unless", "until", "in"}
NO_TERNARY = {":", ".", "?", ")", ",", ";", "=", ">", "]"}  # a `?` before one of these belongs to a type or to `?.`
OPEN, CLOSE = {"(": ")", "{": "}", "[": "]"}, {")": "(", "}": "{", "]": "["}
TYPE_BEGINS = {":", "|", "&", "<", ","}  # a brace after one of these begins a type
TYPE_TOKENS = 80  # most tokens of a result's type, between parameters and body


class Token(NamedTuple):
    text: str
    line: int


class Function(NamedTuple):
    complexity: int
    lines: int
    path: str
    line: int
    name: str


def functions(path: str) -> Iterator[Function]:
    """Yields the functions of the file `path`: those that lizard finds, then those that it misses. If lizard cannot
    read the file, raises its exception, which may be of any class.
    """
    by_braces = Path(path).suffix.lower() in BY_BRACES and not path.endswith(".d.ts")
    found: list[Function] = []
    try:
        analyzer: Any = lizard.FileAnalyzer(lizard.get_extensions([]))
        found = [
            Function(each.cyclomatic_complexity, each.length, path, each.start_line, each.name)
            for each in analyzer(path).function_list
        ]
    except Exception:
        if not by_braces:
            raise
    yield from found
    if by_braces:
        yield from missed(path, Path(path).read_text(errors="replace"), found)


def missed(path: str, source: str, found: list[Function]) -> Iterator[Function]:
    """Yields the functions in `source`, the text of the file `path`, that lizard missed: those whose body begins
    outside the lines of all functions in `found`.
    """
    known = {line for each in found for line in range(each.line, each.line + each.lines)}
    tokens = list(_tokens(path, source))
    matches = _matches(tokens)
    at = 0
    while at < len(tokens):
        end = matches.get(at, 0)
        if (
            tokens[at].text == "{"
            and tokens[at].line not in known
            and (start := _head(tokens, at, matches)) is not None
        ):
            body = [token for token in tokens[at:end] if token.line not in known]
            branches = sum(_is_branch(token.text, following.text) for token, following in pairwise(body))
            first = tokens[start].line
            yield Function(1 + branches, tokens[end].line - first + 1, path, first, _name(tokens, start))
            at = end
        at += 1


def _tokens(path: str, source: str) -> Iterator[Token]:
    """Yields the tokens of `source` with their lines, without spaces and comments. The file ending of `path` selects
    the language.
    """
    line = 1
    reader: Any = get_reader_for(path)
    for text in reader.generate_tokens(source):
        if not text.isspace() and not text.startswith(("//", "/*")):
            yield Token(text, line)
        line += text.count("\n")


def _matches(tokens: list[Token]) -> dict[int, int]:
    """Returns, for each bracket in `tokens` that has a partner, its position → the position of its partner."""
    matches, stack = {}, list[int]()
    for at, token in enumerate(tokens):
        if token.text in OPEN:
            stack.append(at)
        elif token.text in CLOSE and stack and tokens[stack[-1]].text == CLOSE[token.text]:
            matches[at] = stack.pop()
            matches[matches[at]] = at
    return matches


def _head(tokens: list[Token], brace: int, matches: dict[int, int]) -> int | None:
    """Returns the position of the first token of a function's head (the opening parenthesis of its parameters, or its
    `=>`) if the brace at position `brace` begins the body of a function; else None. `matches` holds position → position
    of the partner bracket.
    """
    if brace not in matches or brace == 0:
        return None
    before = brace - 1
    if tokens[before].text == "=>":
        return before
    if tokens[before].text in TYPE_BEGINS:
        return None
    at = before + 1
    while at > max(0, brace - TYPE_TOKENS):
        at -= 1
        text = tokens[at].text
        if text in ("}", "]"):
            at = matches.get(at, 0)
        elif text == ")" and (at == before or tokens[at + 1].text in (":", "->")):
            start = matches.get(at, 0)
            return start if start and tokens[start - 1].text not in HEADS else None
        elif text in (";", "=", "{", "return"):
            return None
    return None


def _name(tokens: list[Token], start: int) -> str:
    """Returns the name of the function whose head begins at position `start`, from the tokens before it; `(anonymous)`
    if it has no name.
    """
    at = start - 1
    depth = 0
    while at > 0 and (tokens[at].text.endswith(">") or depth > 0):
        depth += tokens[at].text.count(">") - tokens[at].text.count("<")
        at -= 1
    name = tokens[at].text if at >= 0 else ""
    return name if name.replace("_", "").replace("$", "").isalnum() and name != "function" else "(anonymous)"


def _is_branch(text: str, following: str) -> bool:
    return text in BRANCHES or (text == "?" and following not in NO_TERNARY)


def sources(folder: str) -> Iterator[str]:
    """Yields the paths of all files below `folder` that lizard can read."""
    for at, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(at, name) for name in sorted(files) if get_reader_for(name) is not None)


def comment_lines(path: str) -> tuple[int, int]:
    """Returns how many lines of the file hold words of a comment or docstring, and how many hold code. A line may count
    for both.
    """
    commented, code, line = set[int](), set[int](), 1
    try:
        lexer = get_lexer_for_filename(path, stripnl=False)
    except ClassNotFound:
        return 0, sum(1 for each in Path(path).read_text(errors="replace").splitlines() if each.strip())
    for kind, text in lexer.get_tokens(Path(path).read_text(errors="replace")):
        is_comment = kind in String.Doc or (
            kind in Comment and kind not in Comment.Preproc and kind not in Comment.PreprocFile
        )
        for number, part in enumerate(text.split("\n"), line):
            if is_comment and kind is not Comment.Hashbang and any(each.isalnum() for each in part):
                commented.add(number)
            elif not is_comment and part.strip():
                code.add(number)
        line += text.count("\n")
    return len(commented), len(code)


def main(folder: str, list_of_left_out: str, comments: str = "") -> None:
    left_out = frozenset(json.loads(Path(list_of_left_out).read_text()))
    seen = set[bytes]()
    for path in sources(folder):
        if path in left_out:
            sys.stdout.write(f"{json.dumps({'left_out': path})}\n")
            continue
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
        if digest in seen:  # equal files count once
            continue
        seen.add(digest)
        try:
            if comments:
                sys.stdout.write(f"{json.dumps({'comments': [*comment_lines(path), path]})}\n")
            for function in functions(path):
                sys.stdout.write(f"{json.dumps(function)}\n")
        except Exception as error:  # lizard raises many kinds of errors on text that it does not expect
            sys.stdout.write(f"{json.dumps({'unread': path, 'error': type(error).__name__})}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
