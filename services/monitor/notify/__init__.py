"""Notifies people: messages, their recipients, silences, and the notifier that sends them.

May import `rules`. Imported by `dispatch`, `api` and `main`.
"""
