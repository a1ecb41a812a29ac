"""An app that says neither how it is started nor whether it is well."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def hello() -> str:
    return "hello from fastapi"
