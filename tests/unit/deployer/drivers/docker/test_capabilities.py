"""A container keeps some capabilities, by what the engine says of its image."""

import pytest

from services.deployer.drivers.docker.capabilities import capabilities_of, starts_as_root


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "root:root", "0:1000"])
def test_an_image_without_a_user_or_with_user_0_starts_as_root(user: str) -> None:
    assert starts_as_root({"Config": {"User": user}})


@pytest.mark.parametrize("user", ["10001:10001", "nginx", "1000:0", "rooted"])
def test_an_image_with_another_user_does_not(user: str) -> None:
    assert not starts_as_root({"Config": {"User": user}})


@pytest.mark.parametrize("image", [{}, {"Config": None}, {"Config": {}}])  # newer engines leave out what is empty
def test_what_an_engine_does_not_say_is_root(image: dict[str, object]) -> None:
    assert starts_as_root(image)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(["SETUID", "CHOWN"], ("CHOWN", "SETUID")), (["CAP_CHOWN"], ("CHOWN",)), (None, ()), ([], ())],
)
def test_what_a_container_keeps_is_read_with_and_without_the_kernels_prefix(
    said: list[str] | None, kept: tuple[str, ...]
) -> None:
    assert capabilities_of({"HostConfig": {"CapAdd": said}}) == kept
