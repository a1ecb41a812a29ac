"""Reads a commit: the files in the app's root folder, and its manifest."""

from collections.abc import Sequence

from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.git.repository import TrackedFile
from services.build.logs.build_log import BuildLog
from services.build.manifest.manifest_faults import Fault
from services.build.manifest.manifest_loader import LoadedManifest, read_manifest
from services.build.manifest.manifest_parser import BadManifest
from services.build.pipeline.build_context import BuildContext
from services.build.secrets.secret import Secrets
from services.build.system.api_call import api_call


async def read_commit(
    context: BuildContext, app: App, build: Build, secrets: Secrets, log: BuildLog
) -> tuple[Sequence[TrackedFile], LoadedManifest]:
    """Returns the files of the commit that are built, and its manifest completed by inference. Writes to `log` what was
    inferred. Raises BadManifest if the manifest is faulty or the app's root is not a folder of the commit, and BadTree
    if the commit holds files that builds refuse.
    """
    git, executor = context.repositories, context.executor
    if build.root is not None and not await git.in_thread(git.has_tree, app.name, build.tree):
        whole = api_call("PUT", f"/apps/{app.name}", {"root": None})
        detail = f"{build.root} is no folder of this commit; add it, or take all of the repository: {whole}"
        raise BadManifest([Fault("root", detail)])
    tracked = await git.in_thread(git.tracked, app.name, build.tree)
    present = await executor.present()
    images = executor.builds_images
    return tracked, await read_manifest(git, app, tracked, secrets, log, images=images, present=present)
