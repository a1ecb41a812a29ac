"""Decides whether a build has run all steps that production requires. Pure."""

from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.manifest.step_graph import in_order, reason_to_skip, selected
from shared.models import Environment


def promotion_refusal(build: Build, app: App) -> str:
    """Returns the reason why the build cannot be released to production, with the remedy; empty if it can. It can if it
    was a build for production, or if it ran each step that a build of its commit would run on a branch of production.
    """
    if build.manifest is None or build.effective_environment is Environment.PRODUCTION:
        return ""
    branches = sorted(branch for branch, environment in app.branches.items() if environment is Environment.PRODUCTION)
    steps = in_order(build.manifest.steps)
    skipped = {step.name: reason_to_skip(step, build.branch, build.environment) for step in steps}
    lacking = {
        branch: [
            f"{step.name} {skipped[step.name]}"
            for step in selected(steps, branch, Environment.PRODUCTION)
            if skipped[step.name]
        ]
        for branch in branches
    }
    if not branches or not all(lacking.values()):
        return ""
    branch = min(branches, key=lambda each: len(lacking[each]))
    remedy = f"push its commit to {branch}, whose build runs them and goes to production"
    return (
        f"{build.id} has not run steps that production asks for: {'; '.join(lacking[branch])}. "
        f"Instead of promoting it, {remedy}: git push <remote> {build.commit}:refs/heads/{branch}"
    )
