"""Finds the folders of artifacts in the home (the platform's data folder), and checks artifacts that were built at
another path.
"""

from pathlib import Path

from services.deployer.drivers.driver import ArtifactChanged, ArtifactGone, ArtifactUnusable, MachineShort
from shared.host.artifact_folder import (
    ArtifactAltered,
    ArtifactBound,
    ArtifactMissing,
    artifact_folder,
    check_artifact,
    check_interpreter,
    is_moved,
)
from shared.host.shortage import shortage
from shared.models import Artifact


class ArtifactFolders:
    """Finds the artifacts in `home`, the platform's data folder. If one was built at another path, because the home was
    moved or copied since, all of its files are checked before its first start: some may be missing, or contain that
    path. Methods block.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._sound: set[str] = set()

    def usable(self, artifact: Artifact) -> Path:
        """Returns the artifact's folder. Raises ArtifactUnusable if no instance can be started from it."""
        folder = artifact_folder(self._home, artifact.ref)
        is_new_here = is_moved(self._home, artifact) and artifact.digest not in self._sound
        if is_new_here or artifact.kind != "directory" or not folder.is_dir():
            self.verify(artifact)
            self._sound.add(artifact.digest)
        try:
            check_interpreter(folder)
        except ArtifactBound as error:
            raise ArtifactUnusable(str(error)) from error
        return folder

    def verify(self, artifact: Artifact) -> None:
        """Reads the whole artifact. Raises ArtifactGone if it is missing, ArtifactChanged if its content has changed,
        ArtifactUnusable if it can run only at another path or on another machine, and MachineShort if the machine has
        no memory or open file left to read it.
        """
        if artifact.kind != "directory":
            raise ArtifactGone(f"processes run from a directory, not from an {artifact.kind}")
        try:
            check_artifact(self._home, artifact)
        except ArtifactAltered as error:
            raise ArtifactChanged(str(error)) from error
        except ArtifactMissing as error:
            raise ArtifactGone(str(error)) from error
        except ArtifactBound as error:
            raise ArtifactUnusable(str(error)) from error
        except OSError as error:
            if (problem := shortage(error)) is None:
                raise
            raise MachineShort(f"{Path(artifact.ref).name} cannot be read: {problem.detail}") from error
