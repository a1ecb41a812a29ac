"""Computes a build's cache key, and decides whether an earlier build may be reused. Pure. The key is a digest of
everything that decides the verdict: commit, manifest, steps, gates. If a build with the same key passed, and its
artifact still exists, a later build may reuse the artifact.
"""

import hashlib
import json
from datetime import datetime
from typing import Any

from services.build.builds.app import App
from services.build.builds.build import Build, with_changes
from services.build.gates.baseline import Baseline
from services.build.gates.flaky import limits
from services.build.gates.gate import effective
from services.build.gates.known_findings import KnownFindings
from services.build.manifest.step_graph import in_order, selected
from shared.manifest import Manifest, Stage
from shared.models import View

KEPT = 100  # cache entries of each app


class CacheEntry(View):
    """Records which build passed under a cache key."""

    build: str
    baseline: Baseline
    """Record of the build with which later builds of its branch are compared."""


def selected_steps(manifest: Manifest, build: Build) -> list[str]:
    """Returns the names of the steps that this build runs, by stage and then in the order of the manifest."""
    return [step.name for step in selected(in_order(manifest.steps), build.branch, build.effective_environment)]


def judgement_key(
    build: Build,
    app: App,
    manifest: Manifest,
    baseline: Baseline | None,
    known: KnownFindings | None,
    *,
    images: bool,
    asks_branch: bool,
) -> str:
    """Returns the build's cache key as a hex digest. It covers the names of secrets, but not their values; `baseline`,
    the earlier build to compare with, as far as it decides the verdict; and `known`, the findings that do not count.
    `images` is True if artifacts are images; `asks_branch` is True if a file of the commit mentions the variable that
    holds the branch's name.
    """
    steps = selected_steps(manifest, build)
    tested = any(step.reports.junit for step in manifest.steps if step.name in steps)
    gates = effective(app.gates, manifest.gates, tested=tested)
    against = {
        "changed_coverage": baseline and baseline.commit if gates.changed_coverage is not None else None,
        "new_findings": baseline and sorted(baseline.findings.items()) if gates.new_findings is not None else None,
    }
    decides: dict[str, Any] = {
        "commit": build.tree,
        "manifest": manifest.model_dump(mode="json"),
        "steps": steps,
        "gates": gates.model_dump(mode="json"),
        "flaky": limits(app.flaky, manifest.flaky).model_dump(mode="json"),
        "against": against,
        "images": images,
        "branch": build.branch if asks_branch else None,
    }
    excluded = [app.exclude, baseline.exclude if baseline else []]
    if any(excluded):
        decides["exclude"] = excluded
    if known is not None:
        decides["known"] = known.before
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def may_be_reused(earlier: Build, now: datetime) -> bool:
    """Returns True if `earlier` passed, its artifact was not deleted, and no quarantine of a flaky test that its
    verdict relies on has ended.
    """
    is_there = earlier.passed and earlier.artifact is not None and earlier.expired.artifact is None
    return is_there and all(now < each.until for each in earlier.flaky)


def reused(build: Build, earlier: Build, now: datetime) -> Build:
    """Returns `build` as passed, with artifact and gates of `earlier`. Its field `reused` names the build that ran the
    steps.
    """
    return with_changes(
        build,
        artifact=earlier.artifact,
        gates=earlier.gates,
        flaky=earlier.flaky,
        untested=earlier.untested,
        passed=True,
        reused=earlier.reused or earlier.id,
        stage=Stage.DEPLOY,
        sealed_at=now,
    )


def not_reused(build: Build) -> Build:
    """Returns the build marked to run its own steps, without the result that it took from an earlier build, because
    that result's artifact has been deleted.
    """
    return with_changes(
        build, artifact=None, gates=[], flaky=[], untested=None, passed=False, reused=None, fresh=True, sealed_at=None
    )
