"""Loads the manifest of a commit, and completes it by inference."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.build.builds.app import App
from services.build.builds.build import Inferred
from services.build.git.repository import Repositories, TrackedFile
from services.build.inference.infer import infer
from services.build.inference.inference import APP, Inference, LanguagePart, NotInferred
from services.build.inference.tree import LARGEST_LOCK_BYTES, LOCKS, Tree, worth_reading
from services.build.logs.build_log import BuildLog
from services.build.manifest.manifest_faults import Fault, loosened, loosened_flaky, missing_secrets
from services.build.manifest.manifest_parser import NAME, BadManifest, parse_manifest, shown, with_lines
from services.build.manifest.step_graph import service_faults
from services.build.secrets.secret import Secrets
from shared.manifest import MIB, Manifest

LARGEST_AT_ROOT_BYTES = MIB  # of the files that inference reads: they are read into memory
NEAR_MISSES = {"slipway.yaml", "slipway.yml", ".slipway.yml", ".slipway.yaml", "slipway.json", "slipway.toml"}


@dataclass(frozen=True)
class LoadedManifest:
    """Holds a commit's manifest, completed by inference."""

    manifest: Manifest
    inferred: tuple[Inferred, ...]
    """Entries that are missing in the manifest, with the values that were inferred and the files that these come from.
    """
    stages: tuple[LanguagePart, ...]
    """Parts of the app, one for each language, from which an image is built."""
    port_is_written: bool
    """True if the manifest itself gives the port."""


async def read_manifest(
    repositories: Repositories,
    app: App,
    tracked: Sequence[TrackedFile],
    secrets: Secrets,
    log: BuildLog,
    *,
    images: bool,
    present: Mapping[str, str],
) -> LoadedManifest:
    """Returns the manifest of a commit, checked against the app's gates and `secrets`. Writes to the log what was
    inferred and what is ignored. `tracked` holds the files of the app's root; `images` is True if artifacts are images;
    `present` holds language → version on this machine. Raises BadManifest if the manifest is faulty.
    """
    plain = {file.path: file for file in tracked if file.mode.startswith("100")}
    contents = await _contents(repositories, app, plain)
    written = contents.pop(NAME, None)
    missed = sorted(path for path in plain if path.lower() in NEAR_MISSES and path != NAME)
    if missed and written is None:
        raise BadManifest([Fault(missed[0], f"is not read; name it {NAME}")])
    manifest = Manifest(app=app.name)
    if written is not None:
        manifest = await asyncio.to_thread(parse_manifest, written, app.name)
        if faults := loosened(app.name, app.gates, manifest.gates) + loosened_flaky(
            app.name, app.flaky, manifest.flaky
        ):
            raise with_lines(written, faults)
    found, command, own_steps = Inference(None), manifest.run.command, "steps" in manifest.model_fields_set
    if images or command is None or not own_steps:
        present = {} if own_steps else present  # own steps may install another version than the machine's
        tree = Tree(plain.keys(), contents)
        try:
            found = await asyncio.to_thread(infer, tree, images=images, present=present, written=command)
        except NotInferred as error:
            raise BadManifest([Fault(error.field, error.detail)]) from error
    if found.problem:
        field, start = (NAME, "is missing, and ") if written is None else ("run.command", "is missing, and ")
        raise BadManifest([Fault(field, f"{start}{found.problem.replace(APP, app.name)}")])
    loaded = completed(manifest, found, images=images)
    checked = loaded.manifest
    if faults := missing_secrets(checked, secrets) + service_faults(checked.steps, containers=images):
        raise with_lines(written or b"app: x", faults)
    for missed_too in missed:
        log.say(f"{missed_too} is not read; {NAME} is")
    if loaded.inferred:
        log.say("--- inferred" if written is not None else f"--- no {NAME}: inferred from the commit's files")
    for each in loaded.inferred:
        log.say(f"    {each}")
    for sentence in found.said:
        log.say(f"    {shown(sentence)}")
    return loaded


def completed(manifest: Manifest, found: Inference, *, images: bool) -> LoadedManifest:
    """Returns the manifest with the inferred steps and command of `found`, each only if the manifest does not give
    it.
    """
    inferred: list[Inferred] = []
    steps, run = manifest.steps, manifest.run
    if "steps" not in manifest.model_fields_set and found.steps:
        steps = list(found.steps)
        origin = ", ".join(dict.fromkeys(found.origins))
        inferred.append(Inferred(key="steps", value=", ".join(step.name for step in steps), origin=origin))
    elif images:
        own = [step.image or found.image_of(step.commands) for step in steps]
        steps = [step.model_copy(update={"image": image}) for step, image in zip(steps, own, strict=True)]
    if run.command is None and found.command is not None:
        guess = found.command
        run = run.model_copy(update={"command": guess.value, "command_from": shown(guess.origin)})
        inferred.append(Inferred(key="run", value=shown(guess.value), origin=shown(guess.origin)))
    complete = manifest.model_copy(update={"steps": steps, "run": run})
    return LoadedManifest(complete, tuple(inferred), found.stages, "port" in manifest.run.model_fields_set)


def with_port(loaded: LoadedManifest, exposed: Sequence[int]) -> LoadedManifest:
    """Returns the manifest with the port that the image exposes, unless the manifest gives one. If the image exposes
    several ports, uses the default port if it is among them, else 80; if neither is, the port stays.
    """
    run = loaded.manifest.run
    several = [port for port in (run.port, 80) if port in exposed]
    port = exposed[0] if len(exposed) == 1 else next(iter(several), run.port)
    if loaded.port_is_written or port == run.port:
        return loaded
    manifest = loaded.manifest.model_copy(update={"run": run.model_copy(update={"port": port})})
    inferred = Inferred(key="run.port", value=str(port), origin="EXPOSE of the image")
    return replace(loaded, manifest=manifest, inferred=(*loaded.inferred, inferred))


async def _contents(repositories: Repositories, app: App, plain: Mapping[str, TrackedFile]) -> dict[str, bytes]:
    """Returns path → content of the manifest and of the files that inference reads. Raises BadManifest if one of them
    is too large. A Python file, or a file in a subfolder, is skipped instead if it is too large.
    """
    contents = {}
    for path in worth_reading([*plain, *([NAME] if NAME in plain else [])]):
        file = plain[path]
        if file.size > (LARGEST_LOCK_BYTES if path in LOCKS or path.endswith(".lock") else LARGEST_AT_ROOT_BYTES):
            if "/" in path or path.endswith(".py"):
                continue
            raise BadManifest([Fault(path, f"is larger than {LARGEST_AT_ROOT_BYTES // MIB} MiB; make it smaller")])
        contents[path] = await repositories.in_thread(repositories.read, app.name, file)
    return contents
