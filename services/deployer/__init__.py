"""The deployer: brings builds that passed into environments, and keeps their instances running.

Releases: pending → starting → live → retired, or → failed | rolled_back. Instances: starting → ready → draining →
stopped, or → unhealthy | failed. Everything follows from facts: stored (store.py), seen (driver, prober, proxy).

release.py, instance.py, environment.py   the nouns and their states
environment_patch.py, vault.py            what may be wished for; variables and secrets as they are stored
observe.py, plan.py, work.py              what the facts ask for: changes first, then work (action.py)
stop_first.py                             of that, what volumes ask for
apply.py, publish.py                      what changes mean for the store, the events, the registry
runner.py, worker.py                      one environment's plans carried out
prober.py, proxy.py, driver.py            the outside: instances' health, the proxy service, the engine
process_*.py, linux_process.py            the engine of plain processes
docker_*.py                               the engine of containers; docker_images.py removes old images,
                                          docker_address.py chooses addresses that nobody else has soon
ending.py                                 the end of the whole platform, for the launcher
thread.py                                 blocking calls that nobody may think cut off
memory_*.py, cgroup_files.py              what holds those to their memory limits: control groups, or a guard
out_of_memory.py                          what follows a kill at the limit
orders.py, api.py, environment_view.py    what clients order, and see
loops.py                                  all environments; housekeeping
"""
