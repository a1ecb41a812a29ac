"""Authentication and encryption: the token, credentials derived from it, and the vault for stored secrets."""
