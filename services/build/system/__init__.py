"""Programs of the operating system: running commands, reading pipes, removing files safely.

Imports no other package of the build service.
"""
