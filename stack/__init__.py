"""The whole stack on one machine without Docker: the launcher, the demo, the benchmarks and their load.

launcher.py    `make local`: Redis, Envoy and the five services under supervisor; its stop
programs.py    what supervisor runs: pure configuration
control.py     the stack as a test, a bench or the demo holds it: started, asked, killed, ended
"""
