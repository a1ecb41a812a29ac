"""Authenticates callers by the platform's token, derives credentials from it, and encrypts stored secrets.

May import `config` and `errors`. Imported by build, deployer and flags, and by `web`.
"""
