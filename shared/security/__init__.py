"""Authenticates callers by the platform's token, derives credentials from it, encrypts stored secrets, and masks
them in texts.

May import `config` and `errors`. Imported by build, deployer and flags, and by `web`.
"""
