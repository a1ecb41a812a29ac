"""Stands in for the app's tests and linter: writes the reports that a build reads.

The file `verdict` says which test fails: none (`pass`), the first (`fail`), the second at its first run (`flaky`).
"""

import json
import sys
from pathlib import Path

REPORTS = Path("reports")
MARK = REPORTS / "ran"


def main() -> int:
    REPORTS.mkdir(exist_ok=True)
    verdict = Path("verdict").read_text().strip()
    failing = {"fail": "holds", "flaky": "" if MARK.exists() else "may_fail"}.get(verdict, "")
    MARK.touch()
    failure = '<failure message="it is two">it is two, not one</failure>'
    names = ("holds", "may_fail")
    cases = "".join(f'<testcase classname="app" name="{n}">{failure * (n == failing)}</testcase>' for n in names)
    (REPORTS / "junit.xml").write_text(f"<testsuite>{cases}</testsuite>")
    count = len(Path("app.py").read_text().splitlines())
    lines = "".join(f'<line number="{number}" hits="{int(number % 4 > 0)}"/>' for number in range(1, count + 1))
    package = f'<package><classes><class filename="app.py"><lines>{lines}</lines></class></classes></package>'
    (REPORTS / "coverage.xml").write_text(f"<coverage><packages>{package}</packages></coverage>")
    place = {"artifactLocation": {"uri": "app.py"}, "region": {"startLine": 1}}
    found = {"ruleId": "X1", "message": {"text": "a finding"}, "locations": [{"physicalLocation": place}]}
    run = {"tool": {"driver": {"name": "looker"}}, "results": [found]}
    (REPORTS / "lint.sarif").write_text(json.dumps({"version": "2.1.0", "runs": [run]}))
    return int(bool(failing))


if __name__ == "__main__":
    sys.exit(main())
