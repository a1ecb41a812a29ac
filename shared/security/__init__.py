"""Authenticates callers and encrypts secrets: the token, credentials derived from it, the vault for stored secrets.

May import `config` and `errors`. Imported by build, deployer and flags, and by `web`.
"""
