"""Measures the coverage of the lines that a commit changes. Blocks while git compares commits."""

from collections.abc import Collection, Mapping

from services.build.gates.baseline import Baseline, changed_coverage, changed_lines
from services.build.git.repository import GitFailed, Repositories
from services.build.reports.metric import Measure
from shared.manifest import MIB

LARGEST_COMPARED_BYTES = 10 * MIB  # largest file: git needs sixty times its size in memory to compare it


def coverage_since(
    repositories: Repositories,
    app: str,
    commit: str,
    baseline: Baseline | None,
    base: str | None,
    hits: Mapping[str, Mapping[int, int]],
    strangers: Collection[str],
) -> Measure:
    """Returns, as a measure, the coverage of the lines that changed between `base` and `commit`. These name the commits
    of `baseline` (the earlier build to compare with) and of the build, or the app's folder in both
    (`<commit>:<folder>`); without `base`, all lines count as changed. `hits` holds file → line → number of runs;
    `strangers` are names in the coverage report that are no file of the commit. There is no figure if git cannot
    compare the commits, or if `hits` names a file above 10 MiB. Other files above 10 MiB are ignored. Raises BadTree if
    a commit exceeds the limits of files and size.
    """
    against = f"since {baseline.build}" if baseline is not None else "(no build has passed yet: all)"
    large = repositories.larger_than(LARGEST_COMPARED_BYTES, app, base, commit)
    if named := sorted(large & hits.keys()):
        return Measure(
            None, f"{named[0]} is larger than {LARGEST_COMPARED_BYTES // MIB} MB, and not compared; split it"
        )
    try:
        diff = repositories.diff(app, base, commit, without=large)
    except GitFailed as error:
        remedy = "leave out of the commit what is made by a build"
        return Measure(None, f"what changed {against} cannot be compared: {error}; {remedy}")
    return changed_coverage(hits, changed_lines(diff), against, strangers)
