"""Answers its own host only."""

from flask import Flask, request

app = Flask(__name__)
app.config["TRUSTED_HOSTS"] = ["flask.localhost"]


@app.get("/")
def hello() -> str:
    return f"hello from {request.host.partition('.')[0]}"
