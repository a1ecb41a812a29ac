"""Infers how an app of plain files is served: an HTML site, or the folder into which a build writes files (decision
33).
"""

from services.build.inference.inference import Guess, LanguagePart, build_step

IMAGE = "python:3.13-slim"
SITE = ".slipway-site"
INSTALL = "pip install 'starlette==1.*' 'uvicorn==0.*'"
# The files to be served are first copied to a folder of their own: none whose name begins with a dot, except in
# .well-known, and none that configures Slipway.
_LEFT_OUT = "Procfile slipway.yml Dockerfile node_modules __pycache__"
_PUBLISH = (
    f"rm -rf {SITE} && python -c \"import shutil; shutil.copytree('{{folder}}', '{SITE}', symlinks=True, "
    "ignore=lambda at, names: [each for each in names if each.startswith('.') and each != '.well-known' "
    f"or at == '.' and each in '{_LEFT_OUT}'.split()])\""
)
SERVE = (
    'exec python -c "import os, uvicorn; from starlette.applications import Starlette; '
    "from starlette.routing import Mount; from starlette.staticfiles import StaticFiles; "
    f"uvicorn.run(Starlette(routes=[Mount('/', StaticFiles(directory='{SITE}', html=True))]), host=os.environ['HOST'], "
    "port=int(os.environ['PORT']), forwarded_allow_ips='*', access_log=False)\""
)


def site(folder: Guess, image: str = IMAGE) -> tuple[LanguagePart, Guess]:
    """Returns the part of a build that copies the files of `folder` (`.` is the repository's root) to a folder of their
    own, and the command that serves them from there.
    """
    publish = _PUBLISH.format(folder=folder.value)
    steps = (build_step("static", image, [INSTALL, publish]),)
    takes = () if folder.value == "." else (folder.value,)
    part = LanguagePart("python", image, folder.origin, steps, (INSTALL,), (), (publish,), takes)
    return part, Guess(SERVE, f"{folder.origin}; its files are served by Starlette")
