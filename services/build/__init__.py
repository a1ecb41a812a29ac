"""Builds apps: takes pushes, runs a commit's steps, judges it by gates, and hands its artifact to the deployer.

Packages in import order; each imports only packages above it (but `executors/docker/` also `reports`):
  logs        build logs: splitting into lines, following, what a build waits for
  system      commands, pipes, sandboxed tools, safe removal, background tasks
  inference   how a commit is built and run, from the files that it holds
  executors   how steps run and artifacts are made: the port, `process/` and `docker/`
  git         repositories, smart HTTP, hooks, fetching, limits of a commit
  reports     JUnit, Cobertura, LCOV and SARIF
  gates       figures against thresholds: reports, baselines, flaky tests
  analysis    figures of the source: functions, secrets, vendored and generated files
  builds      apps and builds: states, stores, commit statuses, queries
  secrets     secrets of apps: encrypted, given to steps, masked
  manifest    `slipway.yml`, what it leaves out, and the graph of steps
  queue       which builds start, and the workers that run them
  cache       reuse of builds that passed
  forges      webhooks, their deliveries, commit statuses on forges
  retention   expiry of logs, artifacts and records; garbage collection
  triggers    what starts a build: pushes, gated pushes, fetched sources
  pipeline    one run of one build, from checkout to deploy
  api         REST and HTML pages
`main.py` assembles them according to `config.py`.
"""
