"""Ends with a traceback before it listens."""

import os

print("connecting to the database")
os.environ["DATABASE_URL"]
