"""The domain of the deployer: environments, releases, instances, and the overrides that people set.

Imports no other package of the deployer.
"""
