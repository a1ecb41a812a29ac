"""Says which migration its database has."""

import os
import sqlite3

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def hello() -> str:
    with sqlite3.connect(f"{os.environ['TMPDIR']}/notes.db") as database:
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return f"hello from alembic at {revision}"
