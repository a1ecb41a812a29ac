import pytest

from services.build.manifest.manifest_parser import BadManifest, parse_manifest


def test_a_whole_manifest_is_read() -> None:
    text = b"app: notes\nsteps:\n- {name: test, stage: test, commands: [pytest]}\nresources: {memory: 64m}\n"
    manifest = parse_manifest(text, "notes")
    assert (manifest.steps[0].name, manifest.resources.memory) == ("test", 64 * 2**20)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"app: notes\nbranches: {main: production}\n", "branches (line 2): is not the manifest's to say"),
        (b"app: notes\nroot: services/web\n", "root (line 2): is not the manifest's to say: it lives on the app"),
        (b"app: notes\ngate: {coverage: 3}\n", "gate (line 2): is not a key of the manifest; did you mean gates?"),
        (b"app: notes\nsteps:\n- name: a\n  commands: [x]\n  shell: y\n", "steps.0.shell (line 5): is not a key"),
        (b"app: notes\ngates: {coverage: .nan}\n", "gates.coverage (line 2): "),
        (b"app: notes\ngates: {coverage: 10}\ngates: {}\n", "gates (line 3): is there twice"),
        (
            b"app: notes\nrun:\n  command_from: x\n",
            "run.command_from (line 3): is not a key of the manifest; remove it",
        ),
        (b"app: other\n", "app (line 1): is 'other', but this was pushed to 'notes'"),
        (b"steps: []\n", "app (line 1): Field required"),
        (b"- a\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"app: [\n", "is not YAML"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"app: &a notes\nhosts: [*a]\n", "(line 2): YAML aliases"),
        (b"app: notes\nexclude: [**/*.js]\n", "; a glob that begins with * stands in quotes"),
        (b"app: notes\nrun: !!python/object:os.system {}\n", "cannot be read"),
        (b"app: notes\n# " + b"x" * 70_000, "is larger than 64 KiB"),
        (b"[" * 60_000, "(line 1): is nested deeper than 20 levels"),
        (b"- " * 30_000, "(line 1): is nested deeper than 20 levels"),
    ],
)
def test_a_fault_names_its_place_and_the_remedy(text: bytes, fault: str) -> None:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(text, "notes")
    assert fault in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(b"app: notes\na: 1\nb: 2\n", "notes")
    assert [fault.field for fault in caught.value.faults] == ["a", "b"]
