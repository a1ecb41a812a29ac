import pytest

from services.build.manifest.manifest_parser import BadManifest, parse_manifest


def test_a_whole_manifest_is_read() -> None:
    text = b"app: notes\nsteps:\n- {name: test, stage: test, commands: [pytest]}\nresources: {memory: 64m}\n"
    manifest = parse_manifest(text, "notes")
    assert (manifest.steps[0].name, manifest.resources.memory) == ("test", 64 * 2**20)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"app: notes\nbranches: {main: production}\n", "branches (line 2): cannot be set in the manifest"),
        (b"app: notes\nroot: services/web\n", "root (line 2): cannot be set in the manifest: it is set on the app"),
        (b"app: notes\ngate: {coverage: 3}\n", "gate (line 2): is not a key of the manifest; did you mean gates?"),
        (b"app: notes\nsteps:\n- name: a\n  commands: [x]\n  shell: y\n", "steps.0.shell (line 5): is not a key"),
        (
            b"app: notes\ncanary:\n  steps:\n  - {weight: 5, for: 2m}\n  - {weight: 33, for: 2 minutes}\n",
            "canary.steps.1.for (line 5): '2 minutes' is not a duration; write it like 30s",
        ),
        (b"app: notes\ncanary: {steps: [{weight: 5}]}\n", "canary.steps.0 (line 2): says neither how long it lasts"),
        (
            b"app: notes\ncanary: {stepz: []}\n",
            "canary.stepz (line 2): is not a key of the manifest; did you mean steps?",
        ),
        (
            b"app: notes\ncanary:\n  steps:\n  - {weight: 5, pauze: true}\n",
            "canary.steps.0.pauze (line 4): is not a key of the manifest; did you mean pause?",
        ),
        (b"app: notes\ngates: {coverage: .nan}\n", "gates.coverage (line 2): "),
        (b"app: notes\ngates: {coverage: 10}\ngates: {}\n", "gates (line 3): is there twice"),
        (
            b"app: notes\nrun:\n  command_from: x\n",
            "run.command_from (line 3): is not a key of the manifest; remove it",
        ),
        (
            b'app: notes\nrun:\n  command: "python app.py \\0"\n',
            "run.command (line 3): holds the character U+0000, which no name",
        ),
        (b'app: notes\nnotify: ["json://a", "json://\\uD800"]\n', "notify.1 (line 2): holds the character U+D800"),
        (b'app: notes\nhosts:\n- a.example\n- "a\\e[2J"\n', "hosts.1 (line 4): holds the character U+001B"),
        (b'app: notes\n"ru\\x07n": {}\n', "slipway.yml (line 2): holds the character U+0007"),
        (b'app: "notes\\x85"\n', "app (line 1): holds the character U+0085"),
        (b"app: notes\nrun: {command: !!binary AA==}\n", "run.command (line 2): is binary; write it as text"),
        (
            b"app: notes\nsteps:\n- name: a\n  commands: [x]\n  environment: {A=B: c}\n",
            "steps.0.environment (line 5): 'A=B' is no name of a variable",
        ),
        (
            b"app: notes\nsteps:\n- name: a\n  commands: [x]\n  environment: {'': c}\n",
            "steps.0.environment (line 5): '' is no name of a variable",
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


def test_text_of_several_lines_and_of_any_language_is_fine() -> None:
    text = "app: notes\nsteps:\n- name: a\n  commands:\n  - |\n    echo 'Grüße 🚀'\n    echo \"\ta\"\n"
    manifest = parse_manifest(text.encode(), "notes")
    assert manifest.steps[0].commands == ["echo 'Grüße 🚀'\necho \"\ta\"\n"]


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(BadManifest) as caught:
        parse_manifest(b"app: notes\na: 1\nb: 2\n", "notes")
    assert [fault.field for fault in caught.value.faults] == ["a", "b"]
