"""Draws the status badge of a branch as SVG. Pure."""

from services.build.builds.build import Build
from shared.models import BuildState

_COLOURS = {"passing": "#17693a", "passing, untested": "#8a5300", "unknown": "#54616e"}
_CHARACTER_PX = 6.6


def badge(build: Build | None) -> str:
    """Returns the badge as SVG. `build` is the branch's last build that ended in success, failure or error; None if
    there is none.
    """
    if build is None:
        word = "unknown"
    elif build.state is BuildState.SUCCESS:
        word = "passing, untested" if build.untested else "passing"
    else:
        word = {BuildState.FAILURE: "failing"}.get(build.state, "error")
    left, right = 44, round(len(word) * _CHARACTER_PX) + 14
    colour = _COLOURS.get(word, "#a8201a")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="build: {word}"><title>build: {word}</title>'
        f'<rect width="{left}" height="20" fill="#333"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,Geneva,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">build</text><text x="{left + right / 2}" y="14">{word}</text></g></svg>\n'
    )
