"""Checks and stores certificates of hosts, and gets them from a certificate authority (ACME, RFC 8555).

May import `routes`, `visitors`, `envoy` and `control`. Imported by `api` and `main`.
"""
