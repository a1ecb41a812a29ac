"""Ends well, and serves nothing."""

import os

print("nothing to do on port", os.environ["PORT"])
