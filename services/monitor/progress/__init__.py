"""Takes rollouts from step to step: asks the analysis when a step's time is over, and tells the proxy. Imports no other
package of the monitor. Imported by `main`.
"""
