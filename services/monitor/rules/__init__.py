"""Alert rules: which metric of a release is compared with which threshold.

Imported by every other package of the monitor; imports none of them.
"""
