import json
from pathlib import Path
from typing import Any

import pytest

from services.proxy.envoy.admin import files_of, version_stat
from services.proxy.envoy.configuration import Configuration, in_writing_order
from services.proxy.envoy.files import EnvoyFiles, PressureFile, envoy_folder, prepare
from services.proxy.routes.edge import EdgeSettings
from services.proxy.routes.route import EndpointState, Route
from shared.config import SharedSettings
from tests.support.proxy.certificates import certificate, sealed
from tests.support.proxy.routes import endpoint, route

CANARY = (endpoint("notes-r2-1", port=20001),)
SPLIT = route(endpoint("notes-r1-1"), canary=CANARY, rollout="notes-r2")


def configuration(given: list[Route]) -> dict[str, Any]:
    """File name → document, of all files."""
    made = Configuration()
    names = {name for each in given for name in made.put(each)}
    return {name: json.loads(made.document(name)[1]) for name in in_writing_order(names)}


def routes_of(given: list[Route], listener: str = "public") -> dict[str, list[Any]]:
    document = configuration(given)[f"rds-{listener}.json"]
    return {host["name"]: host["routes"] for host in document["resources"][0]["virtual_hosts"]}


def test_prepare_makes_what_envoy_needs_and_keeps_what_is_there(tmp_path: Path) -> None:
    settings = SharedSettings(home=tmp_path, public_port=4000)
    bootstrap = prepare(settings)
    folder = envoy_folder(settings)
    assert sorted(path.name for path in folder.glob("*.json")) == [
        "bootstrap.json",
        "cds.json",
        "rds-canary.json",
        "rds-production.json",
        "rds-public.json",
    ]
    EnvoyFiles(folder).write([SPLIT])
    before = {path: path.read_text() for path in folder.glob("*ds*.json")}
    prepare(SharedSettings(home=tmp_path, public_port=5000))
    assert {path: path.read_text() for path in folder.glob("*ds*.json")} == before
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "access.log").stat().st_mode & 0o777 == 0o600
    listener = json.loads(bootstrap.read_text())["static_resources"]["listeners"][0]
    assert listener["address"]["socket_address"]["port_value"] == 5000


def test_a_home_too_deep_for_a_unix_socket_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose a shorter SLIPWAY_HOME"):
        prepare(SharedSettings(home=tmp_path / ("d" * 100)))


def test_only_what_differs_is_written_over_restarts_as_well(tmp_path: Path) -> None:
    settings = SharedSettings(home=tmp_path)
    prepare(settings)
    folder = envoy_folder(settings)
    assert EnvoyFiles(folder).write([SPLIT]) != []
    assert EnvoyFiles(folder).write([SPLIT]) == []
    lighter = SPLIT.model_copy(update={"weight": 10})
    assert EnvoyFiles(folder).write([lighter]) == ["rds-public.json"]


def test_what_a_killed_process_left_unfinished_is_removed_at_the_start(tmp_path: Path) -> None:
    folder = prepare(SharedSettings(home=tmp_path)).parent
    EnvoyFiles(folder).write([SPLIT])
    kept = sorted(path for path in folder.rglob("*") if path.is_file())
    (folder / "routes").mkdir()
    for name in (".cds.json.4711", "routes/.gone.json.5815", "eds/.gone-stable.json.17"):
        (folder / name).write_text("half")
    EnvoyFiles(folder)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == kept


def test_what_is_named_by_others_is_written_first() -> None:
    names = list(configuration([SPLIT]))
    assert names.index("eds/notes.canary.json") < names.index("cds.json") < names.index("rds-public.json")
    assert names.index("rds-canary.json") < names.index("rds-public.json")  # the public one has its endpoints by then
    assert set(names) == set(files_of("notes"))


def test_every_file_has_its_version_in_envoys_statistics() -> None:
    assert {name: version_stat(name) for name in configuration([SPLIT])} == {
        "eds/notes.stable.json": "cluster.notes/stable.version_text",
        "eds/notes.canary.json": "cluster.notes/canary.version_text",
        "cds.json": "cluster_manager.cds.version_text",
        "rds-public.json": "http.public.rds.public.version_text",
        "rds-production.json": "http.production.rds.production.version_text",
        "rds-canary.json": "http.canary.rds.canary.version_text",
    }


def test_the_clusters_of_an_app_do_not_change_with_its_releases() -> None:
    other = route(endpoint("notes-r5-1", port=20009))
    versions = {configuration([given])["cds.json"]["version_info"] for given in (SPLIT, other)}
    assert len(versions) == 1


def test_the_canary_stands_first_in_the_split() -> None:
    weighted = [
        entry["route"]["weighted_clusters"]["clusters"]
        for entry in routes_of([SPLIT])["notes"]
        if "weighted_clusters" in entry["route"]
    ]
    expected = [{"name": "notes/split", "weight": 33}, {"name": "notes/stable", "weight": 67}]
    assert weighted == [expected] * 4  # for visitors with a cookie, and new ones; GET and HEAD, and others


def test_no_route_names_the_canary_once_it_drains() -> None:
    drained = endpoint("notes-r2-1", EndpointState.DRAINING)
    given = route(endpoint("notes-r1-1"), canary=(drained,), rollout="notes-r2")
    for listener in ("public", "canary"):
        text = json.dumps(routes_of([given], listener))
        assert "notes/split" not in text
        assert "notes/canary" not in text


def test_an_app_whose_clusters_envoy_has_not_had_is_not_routed_yet() -> None:
    assert list(routes_of([SPLIT.model_copy(update={"clusters": False})])) == ["nobody"]


def test_one_app_takes_the_hosts_that_nobody_named() -> None:
    routes = [SPLIT.model_copy(update={"edge": EdgeSettings(catch_all=True)}), route(app="shop")]
    assert sorted(routes_of(routes)) == ["notes", "shop"]


def test_envoy_is_told_how_full_it_is_once_half_of_the_connections_are_taken(tmp_path: Path) -> None:
    folder = envoy_folder(SharedSettings(home=tmp_path))
    prepare(SharedSettings(home=tmp_path))
    told = []
    for connections in (0, 49, 50, 95, 120, 10):
        PressureFile(folder, 100).tell(connections)
        told.append((folder / "pressure").read_text())

    assert told == ["0", "0", "0.50", "0.95", "1.00", "0"]


def test_a_pressure_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    folder = envoy_folder(SharedSettings(home=tmp_path))
    prepare(SharedSettings(home=tmp_path))
    pressure = PressureFile(folder, 1_000)
    pressure.tell(700)
    (folder / "pressure").unlink()
    pressure.tell(701)

    assert not (folder / "pressure").exists()


def secured(folder: Path, app: str = "notes", key: str = "key", **hosts: str) -> Route:
    """A route with the hosts `<name>.example.com`, each with a certificate of this chain."""
    names = {f"{name}.example.com": chain for name, chain in hosts.items()}
    found = {host: certificate(host, chain=chain, sealed_key=sealed(folder, key)) for host, chain in names.items()}
    return route(app=app).model_copy(update={"hosts": list(names), "certificates": found})


def keys(folder: Path) -> dict[str, tuple[str, str]]:
    """Host → chain and key, as the files for the keeper hold them; different chains have different versions."""
    found: dict[str, tuple[str, str]] = {}
    versions: dict[str, str] = {}
    for path in (folder / "certificates").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        document = json.loads(path.read_text())
        [secret] = document["resources"]
        chain, key = (secret["tls_certificate"][each]["inline_string"] for each in ("certificate_chain", "private_key"))
        found[path.stem] = chain, key
        assert versions.setdefault(document["version_info"], chain) == chain
    return found


def test_certificates_of_an_apps_hosts_are_in_files_of_their_own_with_plain_keys(tmp_path: Path) -> None:
    folder = prepare(SharedSettings(home=tmp_path)).parent
    files = EnvoyFiles(folder)
    files.write([])
    files.write([secured(folder, a="1", b="1"), secured(folder, "shop", c="1")])
    assert keys(folder) == dict.fromkeys(("a.example.com", "b.example.com", "c.example.com"), ("1", "key"))

    files.write([secured(folder, key="new", a="2")])
    assert keys(folder) == {"a.example.com": ("2", "new"), "c.example.com": ("1", "key")}
    files.write([secured(folder), secured(folder, "shop", a="3", c="1")])  # the host goes to another app
    assert keys(folder) == {"a.example.com": ("3", "key"), "c.example.com": ("1", "key")}
    files.remove("shop")
    assert keys(folder) == {}


def test_a_host_that_is_the_apps_no_more_and_a_wildcard(tmp_path: Path) -> None:
    folder = prepare(SharedSettings(home=tmp_path)).parent
    given = secured(folder, **{"*": "1", "b": "1"})
    EnvoyFiles(folder).write([given.model_copy(update={"hosts": ["*.example.com"]})])
    assert keys(folder) == {"_.example.com": ("1", "key")}


def test_what_no_app_has_is_removed_at_the_start_and_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    folder = prepare(SharedSettings(home=tmp_path)).parent
    given = secured(folder, a="1", b="1")
    EnvoyFiles(folder).write([given])
    before = (folder / "certificates" / "a.example.com.json").stat().st_ino
    (folder / "certificates" / "b.example.com.json").write_text("half")
    (folder / "certificates" / "gone.example.com.json").write_text("{}")

    EnvoyFiles(folder).write([given])

    assert keys(folder) == {"a.example.com": ("1", "key"), "b.example.com": ("1", "key")}
    assert (folder / "certificates" / "a.example.com.json").stat().st_ino == before


def test_a_key_that_cannot_be_decrypted_leaves_the_certificate_that_is_there(tmp_path: Path) -> None:
    folder = prepare(SharedSettings(home=tmp_path)).parent
    files = EnvoyFiles(folder)
    files.write([secured(folder, a="1")])
    given = secured(folder, a="2")
    (folder / "key").unlink()

    files.write([given])

    assert keys(folder) == {"a.example.com": ("1", "key")}
