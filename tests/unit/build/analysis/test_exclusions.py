import time

import pytest

from services.build.analysis.exclusions import BY_CONVENTION, BY_THE_APP, Exclusions, declared


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("vendor/a.py", "vendor/"),
        ("src/node_modules/x/index.js", "src/node_modules/"),
        ("third_party/zlib/zlib.c", "third_party/"),
        ("static/js/jquery-3.7.1.js", "static/js/jquery-3.7.1.js"),
        ("static/jquery.js", "static/jquery.js"),
        ("public/react-dom.production.min.js", "public/react-dom.production.min.js"),
        ("static/js/react-bootstrap.js", "static/js/react-bootstrap.js"),
        ("assets/vue.global.prod.js", "assets/vue.global.prod.js"),
        ("assets/d3.v7.js", "assets/d3.v7.js"),
        ("dist/app.min.js", "dist/app.min.js"),
        ("js/chart-4.4.1.js", "js/chart-4.4.1.js"),
        ("api/notes_pb2_grpc.py", "api/notes_pb2_grpc.py"),
        ("api/notes.pb.go", "api/notes.pb.go"),
    ],
)
def test_what_is_vendored_or_generated_by_convention_is_left_out(path: str, what: str) -> None:
    assert Exclusions().reason(path) == (what, BY_CONVENTION)


@pytest.mark.parametrize(
    "path",
    [
        "app.py",
        "src/vendor.py",
        "vendored/a.py",
        "migrations/0001_initial.py",
        "src/react-app.js",
        "src/chart-view.js",
        "src/chart.js",
        "jquery-3.7.1.js/own.js",
        "myjquery-3.7.1.js",
        "src/minify.js",
        "tests/generated.py",
    ],
)
def test_what_only_looks_like_it_counts(path: str) -> None:
    assert Exclusions().reason(path) is None


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("lib/", "static/lib/a.js", True),
        ("lib/", "lib", False),
        ("static/lib/", "static/lib/deep/a.js", True),
        ("static/lib/", "more/static/lib/a.js", False),
        ("/lib/", "static/lib/a.js", False),
        ("*.gen.py", "a/b/c.gen.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/**/c.py", "a/c.py", True),
        ("a/**", "a", False),
        ("**", "a", True),
        ("a?.py", "a/.py", False),
        ("[ab].py", "b.py", True),
        ("static", "static/a.js", False),
    ],
)
def test_patterns_are_gits(pattern: str, path: str, matches: bool) -> None:
    assert (Exclusions([pattern]).reason(path) is not None) is matches


def test_the_last_pattern_decides_and_the_app_has_the_last_word() -> None:
    exclusions = Exclusions(["!gen/own.py", "!vendor/ours/"], ["gen/"], "notes-3")
    assert exclusions.reason("gen/a.py") == ("gen/", "declared in notes-3")
    assert exclusions.reason("gen/own.py") is None
    assert exclusions.reason("vendor/ours/a.py") is None
    assert exclusions.reason("vendor/a.py") == ("vendor/", BY_CONVENTION)
    assert Exclusions(["gen/"], ["!gen/"], "notes-3").reason("gen/a.py") == ("gen/", BY_THE_APP)


def test_a_commit_declares_by_its_attributes_and_its_manifest() -> None:
    attributes = b"""# ours
*.sql linguist-vendored
gen/** text linguist-generated=true
gen/own.py -linguist-generated
docs/ linguist-vendored
*.py text eol=lf
vendor/ours/** linguist-vendored=false
\xff
"""
    assert declared(attributes, ["lib/"]) == ["*.sql", "gen/**", "!gen/own.py", "!vendor/ours/**", "lib/"]


def test_no_pattern_is_slow() -> None:
    exclusions = Exclusions(["*a" * 90 + "b", "**/" * 60 + "b", "/".join(["a*"] * 60)])
    begun = time.process_time()
    assert exclusions.reason("/".join(["a" * 60] * 60)) is not None
    assert time.process_time() - begun < 1
