"""Recognises apps in languages that Slipway builds only with a Dockerfile."""

from services.build.inference.tree import DOCKERFILE, Tree

_SIGNS = {
    "go.mod": "Go",
    "Gemfile": "Ruby",
    "composer.json": "PHP",
    "index.php": "PHP",
    "pom.xml": "Java",
    "build.gradle": "Java",
    "build.gradle.kts": "Kotlin",
    "Cargo.toml": "Rust",
    "mix.exs": "Elixir",
    "deno.json": "Deno",
    "Package.swift": "Swift",
    "build.sbt": "Scala",
}


def problem(tree: Tree, *, images: bool) -> str:
    """Returns a sentence that names the language of the commit and the remedy; empty if the commit has no file that is
    typical of such a language. `images` is True if artifacts are images.
    """
    path = tree.first(*_SIGNS) or next(
        (path for path in sorted(tree.paths) if path.endswith((".csproj", ".sln"))), None
    )
    if path is None:
        return ""
    what = f"this looks like {_SIGNS.get(path, '.NET')} ({path})"
    if images:
        return f"{what}, which needs a {DOCKERFILE}, or steps and `run: {{command: …}}` in a slipway.yml"
    return (
        f"{what}, which needs a {DOCKERFILE} and a platform with containers (SLIPWAY_DRIVER=docker), or steps and "
        "`run: {command: …}` in a slipway.yml that build and run it on this machine"
    )
