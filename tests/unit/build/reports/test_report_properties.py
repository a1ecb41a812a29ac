"""Whatever order, names or encoding a report has: a figure that fails stays one that fails.

`E2E_EXAMPLES=600`, as in `make soak`, tries more of them.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.build.gates.baseline import Baseline, changed_coverage, fingerprints, new_findings
from services.build.gates.known_findings import KnownFindings
from services.build.gates.report_collection import Collected, Reported
from services.build.reports.coverage import read_coverage
from services.build.reports.junit import CaseCount, merged_cases, read_junit
from services.build.reports.metric import Finding, Measure, Offender
from services.build.reports.path_resolver import PathResolver
from services.build.reports.report_text import Unreadable
from services.build.reports.sarif import read_sarif

EXAMPLES = int(os.environ.get("E2E_EXAMPLES", "25"))
settings.register_profile("reports", derandomize=True, deadline=None, database=None, max_examples=EXAMPLES)
settings.load_profile("reports")

START = datetime(2026, 1, 1, tzinfo=UTC)
OUTCOMES = ["passed", "failure", "error", "skipped", "status=failed", "result=error", "skipped+failure"]
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20).filter(
    str.strip
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "us-ascii"])
Suite = list[tuple[str, str]]  # name and outcome of each test
SUITES: st.SearchStrategy[list[Suite]] = st.lists(
    st.lists(st.tuples(NAMES, st.sampled_from(OUTCOMES)), max_size=6), min_size=1, max_size=4
)
Hits = dict[str, dict[int, int]]
HITS: st.SearchStrategy[Hits] = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}\.py", fullmatch=True),
    st.dictionaries(st.integers(1, 40), st.integers(0, 3), min_size=1, max_size=10),
    min_size=1,
    max_size=4,
)


def junit(suites: Sequence[Suite], *, nested: bool = False, namespace: str = "") -> ElementTree.Element:
    root = ElementTree.Element(f"{namespace}testsuites")
    parent = root
    for suite in suites:
        element = ElementTree.SubElement(parent, f"{namespace}testsuite")
        parent = element if nested else root
        for name, outcome in suite:
            case = ElementTree.SubElement(element, f"{namespace}testcase", name=name, classname="c")
            if "=" in outcome:
                key, _, value = outcome.partition("=")
                case.set(key, value)
            for tag in outcome.split("+"):
                if tag in ("failure", "error", "skipped"):
                    ElementTree.SubElement(case, f"{namespace}{tag}", message="it says é")
    return root


def encoded(root: ElementTree.Element, encoding: str) -> bytes:
    """Returns the XML in this encoding; a character that the encoding lacks becomes a character reference."""
    if encoding == "utf-8-sig":
        return b"\xef\xbb\xbf" + encoded(root, "utf-8")
    data: bytes = ElementTree.tostring(root, encoding, xml_declaration=True)
    return data


def figures(*reports: bytes) -> tuple[int, int, Counter[str]]:
    whole = merged_cases([read_junit(report, START) for report in reports])
    return whole.ran, whole.failures, Counter(whole.failed)


def expected(suites: Sequence[Suite]) -> tuple[int, int]:
    outcomes = [outcome for suite in suites for _, outcome in suite]
    failed = [outcome for outcome in outcomes if outcome not in ("passed", "skipped")]
    return len(outcomes) - outcomes.count("skipped"), len(failed)


@given(
    SUITES, ENCODINGS, st.booleans(), st.sampled_from(["", "{http://junit.org/x}"]), st.randoms(use_true_random=False)
)
def test_tests_fail_in_any_order_nesting_namespace_and_encoding(
    suites: list[Suite], encoding: str, nested: bool, namespace: str, order: random.Random
) -> None:
    ran, failures = expected(suites)
    assume(ran)
    plain = figures(encoded(junit(suites), "utf-8"))
    assert plain[:2] == (ran, failures)
    for suite in suites:
        order.shuffle(suite)
    order.shuffle(suites)
    assert figures(encoded(junit(suites, nested=nested, namespace=namespace), encoding)) == plain


@given(SUITES)
def test_tests_fail_whatever_their_names(suites: list[Suite]) -> None:
    ran, failures = expected(suites)
    assume(ran)
    same = [[("a", outcome) for _, outcome in suite] for suite in suites]
    nameless = junit(suites)
    for case in nameless.iter("testcase"):
        case.attrib.pop("name")
        case.attrib.pop("classname")
    for root in (junit(same), nameless):
        assert figures(encoded(root, "utf-8"))[:2] == (ran, failures)


@given(SUITES)
def test_tests_fail_in_one_report_or_in_many(suites: list[Suite]) -> None:
    assume(expected(suites)[0])
    assert figures(*(encoded(junit([suite]), "utf-8") for suite in suites)) == figures(encoded(junit(suites), "utf-8"))


@given(SUITES, st.integers(0, 10_000))
def test_a_report_that_is_cut_off_says_nothing(suites: list[Suite], at: int) -> None:
    data = encoded(junit(suites), "utf-8")
    try:
        read_junit(data[: at % len(data)], START)
    except Unreadable:
        return
    raise AssertionError("a part was read as a whole")


def cobertura(hits: Mapping[str, Mapping[int, int]], order: random.Random) -> bytes:
    """Each file in one class or in two, as writers have it."""
    root = ElementTree.Element("coverage")
    classes = [(file, line, count) for file, lines in hits.items() for line, count in lines.items()]
    order.shuffle(classes)
    owners: dict[tuple[str, bool], ElementTree.Element] = {}
    for file, line, count in classes:
        key = (file, order.random() < 0.5)
        if key not in owners:
            owners[key] = ElementTree.SubElement(ElementTree.SubElement(root, "class", filename=file), "lines")
        ElementTree.SubElement(owners[key], "line", number=str(line), hits=order.choice([f"{count}", f"{count}.0"]))
    return encoded(root, order.choice(["utf-8", "utf-8-sig", "utf-16", "us-ascii"]))


def lcov(hits: Mapping[str, Mapping[int, int]], order: random.Random) -> bytes:
    text = ""
    for file in order.sample(sorted(hits), len(hits)):
        lines = order.sample(sorted(hits[file].items()), len(hits[file]))
        text += f"TN:\nSF:{file}\n" + "".join(f"DA:{line},{count}\n" for line, count in lines) + "end_of_record\n"
    return text.replace("\n", order.choice(["\n", "\r\n"])).encode(order.choice(["utf-8", "utf-8-sig", "utf-16"]))


Form = Callable[[Hits, random.Random], bytes]


@given(HITS, st.randoms(use_true_random=False))
def test_uncovered_lines_stay_uncovered_in_any_order_form_and_encoding(hits: Hits, order: random.Random) -> None:
    wanted = {(file, line): count for file, lines in hits.items() for line, count in lines.items()}
    for data in (cobertura(hits, order), lcov(hits, order)):
        assert dict(read_coverage(data, START).hits) == wanted


FORMS = st.sampled_from([cobertura, lcov])
PREFIXES = ["", "./", "/w/", "gen/../", "gen/", "../", "/elsewhere/"]


@given(HITS, FORMS)
def test_coverage_is_the_same_under_other_names(hits: Hits, form: Form) -> None:
    order = random.Random(0)
    renamed = {f"{file}/same.py": lines for file, lines in hits.items()}
    before, after = read_coverage(form(hits, order), START), read_coverage(form(renamed, order), START)
    assert (after.covered, after.lines) == (before.covered, before.lines)


@given(HITS, FORMS, st.randoms(use_true_random=False))
def test_changed_lines_pass_under_no_other_names(hits: Hits, form: Form, order: random.Random) -> None:
    """A file that is named in another way is the same one, or there is no figure."""
    changed = {file: [range(1, 41)] for file in hits}
    true_figure = changed_coverage(hits, changed, "").figure
    named = {file: f"{order.choice(PREFIXES)}{file}" for file in hits}
    collected, reported = Collected(PathResolver(hits, ["/w"])), Reported()
    reported.read("coverage", [("out/report", form({named[file]: hits[file] for file in hits}, order))], START)
    collected.add(reported)
    figure = changed_coverage(collected.hits, changed, "", collected.other_hits.keys()).figure
    assert figure in {None, true_figure}
    if all(name.startswith(("./", "/w/", "gen/../")) or name in hits for name in named.values()):
        assert figure == true_figure


RESULTS = st.lists(
    st.fixed_dictionaries(
        {"rule": st.sampled_from("ABC"), "line": st.integers(1, 9), "level": st.sampled_from(["error", "note", None])}
    ),
    max_size=8,
)


def sarif(results: Sequence[Mapping[str, Any]], rules: Sequence[str], order: random.Random) -> bytes:
    """Rules by id or by index; keys in any order."""
    found = []
    for result in results:
        by_index = order.random() < 0.5
        each = {
            "message": {"text": "it says é"},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": {"startLine": result["line"]}}}
            ],
            **({"ruleIndex": rules.index(result["rule"])} if by_index else {"ruleId": result["rule"]}),
            **({"level": result["level"]} if result["level"] else {}),
        }
        found.append(dict(order.sample(sorted(each.items()), len(each))))
    driver = {"name": "t", "rules": [{"id": rule} for rule in rules]}
    document = {"runs": [{"results": found, "tool": {"driver": driver}}], "version": "2.1.0"}
    text = json.dumps(document, ensure_ascii=order.random() < 0.5)
    return text.encode(order.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))


@given(RESULTS, st.randoms(use_true_random=False))
def test_findings_are_found_in_any_order_form_and_encoding(results: list[dict[str, Any]], order: random.Random) -> None:
    wanted = Counter(("t " + result["rule"], result["line"]) for result in results)
    order.shuffle(results)
    found = read_sarif(sarif(results, order.sample("ABC", 3), order))
    assert Counter((finding.rule, finding.offender.line) for finding in found) == wanted


@given(RESULTS, RESULTS, st.randoms(use_true_random=False))
def test_findings_are_new_in_any_order_and_under_any_other_rule(
    before: list[dict[str, Any]], now: list[dict[str, Any]], order: random.Random
) -> None:
    def read(results: Sequence[Mapping[str, Any]], rules: str = "ABC") -> list[Finding]:
        found = read_sarif(sarif(results, rules, order))
        return [finding.with_text([f"line {number}" for number in range(10)]) for finding in found]

    baseline = Baseline(build="notes-1", commit="c" * 40, findings=fingerprints(read(before)))
    figure = new_findings(read(now), {}, baseline).figure
    keys = [Counter((each["rule"], each["line"]) for each in results) for results in (now, before)]
    assert figure == (keys[0] - keys[1]).total()
    assert new_findings(read(order.sample(now, len(now))), {}, baseline).figure == figure
    renamed = [{**each, "rule": order.choice([each["rule"], "D"])} for each in now]
    fewer = new_findings(read(renamed, "ABCD"), {}, baseline).figure
    assert figure is not None and fewer is not None and fewer >= figure


@given(st.lists(st.from_regex(r"(a/|b/|\.\./|/w/)?[ab]\.py", fullmatch=True), max_size=6), st.randoms())
def test_paths_mean_the_same_files_in_any_order(names: list[str], order: random.Random) -> None:
    resolver = PathResolver(["a.py", "a/a.py", "b/a.py"], ["/w"])
    found = resolver.find_all(names, report="b/out.xml")
    assert resolver.find_all(order.sample(names, len(names)), report="b/out.xml") == found


def functions(values: Sequence[tuple[str, int]]) -> Measure:
    findings = tuple(
        Finding("lizard complexity", Offender(file="a.py", line=line, message=name), name, value)
        for line, (name, value) in enumerate(values)
    )
    return Measure(max((value for _, value in values), default=0), findings=findings)


FUNCTIONS = st.lists(st.tuples(st.sampled_from("fg"), st.integers(16, 20)), max_size=5)


@given(FUNCTIONS, FUNCTIONS, st.randoms(use_true_random=False))
def test_what_is_known_excuses_no_more_than_it_is(
    before: list[tuple[str, int]], now: list[tuple[str, int]], order: random.Random
) -> None:
    first = KnownFindings(None)
    first.without("complexity", functions(before))
    later = KnownFindings(first.kept)
    figure = later.without("complexity", functions(now)).figure
    shuffled = KnownFindings(first.kept).without("complexity", functions(order.sample(now, len(now)))).figure
    assert figure == shuffled
    for name, kept in later.kept.items():
        assert all(each <= known for each, known in zip(kept, first.kept[name], strict=False))
        assert len(kept) <= len(first.kept[name])
    if max((value for _, value in now), default=0) > max((value for _, value in before), default=0):
        assert figure == max(value for _, value in now)


def test_counts_of_no_report_are_refused() -> None:
    try:
        merged_cases([CaseCount(0, 0)])
    except Unreadable as error:
        assert str(error) == "holds no test"
