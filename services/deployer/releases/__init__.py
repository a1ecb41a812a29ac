"""Models the domain of the deployer: environments, releases, instances, and the overrides that people set.

May import shared only, no other package of the deployer. Imported by `plan`, `failures`, `reconcile`, `api`,
`store` and `main`.
"""
