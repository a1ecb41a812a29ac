"""Gates that cannot be fooled: each trick is refused, with the reason where `git push` shows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe
from stack.local.local_stack import LocalStack

JUNIT = '<testsuite name="t" tests="1" failures="0" errors="0"><testcase classname="a" name="b"/></testsuite>'
COVERAGE = (
    '<coverage line-rate="{rate}"><packages><package><classes><class filename="a.py"><lines>{lines}</lines></class>'
    "</classes></package></packages></coverage>"
)
LINE = '<line number="1" hits="1"/>'


@dataclass
class Trick:
    """`commands` of the test step, which says that it writes r/junit.xml and r/coverage.xml; `words` in the refusal."""

    commands: list[str]
    words: list[str]
    gates: str = "{test_failures: 0}"
    more: str = ""
    files: dict[str, str] = field(default_factory=dict)


def write(path: str, text: str) -> str:
    return f"mkdir -p r && printf '%s' '{text}' > {path}"


TRICKS = {
    "a test that fails": Trick(
        [
            write(
                "r/junit.xml", JUNIT.replace('failures="0"', 'failures="1"').replace("/></", "><failure/></testcase></")
            )
        ],
        ["test_failures", "1"],
    ),
    "a gate lowered": Trick([write("r/junit.xml", JUNIT)], ["complexity", "PUT /apps/"], "{complexity: 99}"),
    "a branch mapped": Trick([write("r/junit.xml", JUNIT)], ["branches"], more="branches: {dev: production}\n"),
    "a report that was committed": Trick(["true"], ["test_failures", "junit"], files={"r/junit.xml": JUNIT}),
    "a report copied in": Trick(
        ["mkdir -p r", "cp old.xml r/junit.xml"], ["test_failures", "old.xml"], files={"old.xml": JUNIT}
    ),
    "an empty report": Trick([write("r/junit.xml", '<testsuite name="t" tests="0"/>')], ["test_failures", "no test"]),
    "coverage NaN": Trick(
        [write("r/coverage.xml", COVERAGE.format(rate="NaN", lines=LINE))], ["coverage", "NaN"], "{coverage: 70}"
    ),
    "coverage of nothing": Trick(
        [write("r/coverage.xml", COVERAGE.format(rate="1", lines=""))], ["coverage", "line"], "{coverage: 70}"
    ),
    "a gate without a figure": Trick(["true"], ["coverage"], "{coverage: 70}"),
    "a step that fails in the middle": Trick(["false", write("r/junit.xml", JUNIT)], ["false", "exit"]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.smoke] if name == "a test that fails" else []) for name in TRICKS]
)
def test_the_trick_is_refused_and_production_stays(
    stack: LocalStack, make_app: Callable[[str], Deployable], name: str
) -> None:
    trick = TRICKS[name]
    app = make_app("gated")
    for file, text in trick.files.items():
        path = app.repository.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commands = "".join(
        f"      - {command!r}\n" if "'" not in command else f"      - |-\n        {command}\n"
        for command in trick.commands
    )
    manifest = (
        f"app: gated\nsteps:\n  - name: test\n    stage: test\n    commands:\n{commands}"
        "    reports: {junit: r/junit.xml, coverage: r/coverage.xml}\n"
        f"gates: {trick.gates}\n{trick.more}run: {{command: python app.py, health: /up}}\n"
    )
    (app.repository.folder / "slipway.yml").write_text(manifest)
    commit = app.repository.commit(name)
    pushed = app.repository.push("release").finish()
    assert pushed.accepted, pushed.output  # the push is taken; it is the build that is refused
    for words in trick.words:
        assert words in pushed.output, pushed.output
    with stack.api("build") as build:
        newest = build.get("/apps/gated/builds").json()["items"][0]
    assert (newest["commit"], newest["state"], newest["passed"]) == (commit, "failure", False)
    assert newest["reason"]
    assert probe(app.production, "/version", app.host).commit != commit
