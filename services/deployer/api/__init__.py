"""REST of the deployer.

May import every other package of the deployer. Imported by `main` alone.
"""
