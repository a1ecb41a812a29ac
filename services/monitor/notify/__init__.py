"""Defines messages to people, their recipients and silences, and the notifier that sends them. May import `rules`.
Imported by `dispatch`, `api` and `main`.
"""
