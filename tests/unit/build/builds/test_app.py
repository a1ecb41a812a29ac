"""The settings of an app."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.build.builds.app import AppSettings, new_app
from shared.clock import now
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault


@pytest.mark.parametrize(
    ("given", "root"),
    [("services/web", "services/web"), ("/a/", "a"), ("", None), ("/", None), (None, None), (".github/x", ".github/x")],
)
def test_the_root_is_a_folder_of_the_repository(given: str | None, root: str | None, tmp_path: Path) -> None:
    app, vault = new_app("notes", now()).model_copy(update={"root": "old"}), Vault(tmp_path / "key", "test")
    assert AppSettings.model_validate({"root": given}).applied_to(app, vault, guard=AddressGuard()).root == root
    assert AppSettings().applied_to(app, vault, guard=AddressGuard()).root == "old"


@pytest.mark.parametrize("given", ["..", "a/../b", "./a", "a//b", "a b", "a\n", "a:b", "-\x00", "a/."])
def test_a_root_that_leads_elsewhere_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="must be a folder inside the repository"):
        AppSettings(root=given)
