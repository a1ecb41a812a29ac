"""Secrets of apps: encrypted in storage, given to the steps that name them, masked in all output."""
