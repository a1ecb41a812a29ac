"""The images from which a Dockerfile starts are found, and pulled again when they are old."""

import pytest

from services.build.executors.docker.base_images import PullRule, PullSchedule, base_images

EVERYTHING = """\
# syntax=docker/dockerfile:1
ARG VERSION=3.13
ARG BASE="debian:trixie-slim"
ARG NO_DEFAULT
FROM --platform=$BUILDPLATFORM python:${VERSION}-slim AS build
RUN pip install -r requirements.txt && \\
    echo FROM somewhere
RUN psql -c "select name \\
    FROM users"
RUN <<SQL
SELECT 1
FROM orders
SQL
from node:${NODE:-20-slim} as Web
FROM $BASE
COPY --from=build /app /app
FROM build AS test
FROM web
FROM scratch
FROM debian:trixie-slim
FROM registry.example:5000/team/base@sha256:0011
FROM slipway/notes:one-abc
FROM ${NO_DEFAULT}
"""


def test_the_images_that_may_have_changed_are_found_once_each() -> None:
    assert base_images(EVERYTHING) == ["python:3.13-slim", "node:20-slim", "debian:trixie-slim"]
    assert base_images("") == []


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("rule", "has_worked", "pulled_at"),
    [
        ("missing", True, []),
        ("always", True, [0, 300, 600, 86_399, 86_400]),
        ("always", False, [0, 300, 600, 86_399, 86_400]),
        ("daily", True, [0, 86_400]),
        ("daily", False, [0, 600, 86_399]),
    ],
)
def test_images_are_pulled_by_the_rule(rule: PullRule, has_worked: bool, pulled_at: list[float]) -> None:
    clock = Clock()
    schedule, found = PullSchedule(rule, clock), []
    for clock.now in (0, 300, 600, 86_399, 86_400):
        for name in schedule.due(["a"]):
            found.append(clock.now)
            schedule.tried(name, has_worked=has_worked)
    assert found == pulled_at
