"""Loads the manifest of a commit, or infers it if the commit has none."""

import asyncio
from collections.abc import Sequence

from services.build.builds.app import App
from services.build.git.repository import Repositories, TrackedFile
from services.build.logs.build_log import BuildLog
from services.build.manifest.manifest_faults import Fault, loosened, loosened_flaky, missing_secrets
from services.build.manifest.manifest_inference import DOCKERFILE, READ, manifest_of, run_command
from services.build.manifest.manifest_parser import NAME, BadManifest, parse_manifest, with_lines
from services.build.manifest.step_graph import service_faults
from services.build.secrets.secret import Secrets
from shared.manifest import MIB, Manifest

LARGEST_AT_ROOT_BYTES = MIB  # of the files that tell what an app is: they are read into memory


async def read_manifest(
    repositories: Repositories,
    app: App,
    tracked: Sequence[TrackedFile],
    secrets: Secrets,
    log: BuildLog,
    *,
    images: bool,
) -> Manifest:
    """Returns the manifest of a commit, checked against the app's gates and `secrets`. Raises BadManifest. `tracked`
    holds the commit's files; `images` is True if artifacts are images."""
    at_root = [file for file in tracked if file.path in (*READ, NAME) and file.mode.startswith("100")]
    for file in at_root:
        if file.size > LARGEST_AT_ROOT_BYTES:
            raise BadManifest([Fault(file.path, f"is larger than {LARGEST_AT_ROOT_BYTES // MIB} MiB; make it smaller")])
    files = {file.path: await repositories.in_thread(repositories.read, app.name, file) for file in at_root}
    if NAME not in files:
        log.say(f"no {NAME}: the steps follow from {', '.join(files) or 'nothing'}")
        return manifest_of(app.name, files, images=images)
    manifest = await asyncio.to_thread(parse_manifest, files[NAME], app.name)
    faults = loosened(app.gates, manifest.gates) + loosened_flaky(app.flaky, manifest.flaky)
    if faults := faults + missing_secrets(manifest, secrets) + service_faults(manifest.steps, containers=images):
        raise with_lines(files[NAME], faults)
    if manifest.run.command is None:
        command = run_command(files, images=images)
        if command is None and not (images and DOCKERFILE in files):
            raise BadManifest([Fault("run.command", "is missing; say how the app is run, listening on $PORT")])
        manifest.run.command = command
    return manifest
