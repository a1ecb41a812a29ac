"""Decides whether a build was judged by all steps and gates that production requires. Pure."""

from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.gates.gate import judged_again
from services.build.manifest.step_graph import in_order, reason_to_skip, selected
from services.build.system.api_call import api_call
from shared.models import Environment


def promotion_refusal(build: Build, app: App) -> str:
    """Returns the reason why the build cannot be released to production, with the remedy; empty if it can. A build for
    production can, and so can every build of an app without a branch for production. Another build can if it ran each
    step that a build of its commit would run on a branch of production, and if its figures pass the gates that are set
    on the app now.
    """
    if build.manifest is None or build.effective_environment is Environment.PRODUCTION:
        return ""
    branches = sorted(branch for branch, environment in app.branches.items() if environment is Environment.PRODUCTION)
    if not branches:
        return ""
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
    branch = min(branches, key=lambda each: len(lacking[each]))
    said = []
    if lacking[branch]:
        said.append(f"has not run steps that production asks for: {'; '.join(lacking[branch])}")
    if failing := [each for each in judged_again(build.gates, app.gates) if not each.passed]:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in failing)
        said.append(f"does not pass gates that the app has got since ({reasons})")
    if not said:
        return ""
    ordered = api_call("POST", f"/apps/{app.name}/builds", {"branch": branch, "commit": build.commit})
    return (
        f"{build.id} {', and '.join(said)}. Instead of promoting it, have its commit judged as one of {branch}, which "
        f"releases it if it passes: {ordered}; or push its commit to {branch}, unless that has others: git push "
        f"<remote> {build.commit}:refs/heads/{branch}"
    )
