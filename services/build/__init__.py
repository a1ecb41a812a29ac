"""Builds apps: takes pushes, runs a commit's steps, judges the commit by gates, and hands its artifact to the deployer.

Each of these packages imports only packages above it in the list (`executors/docker/` also imports `reports`):
  logs        build logs: splitting into lines, following, lines about waits
  system      commands, pipes, sandboxed tools, safe removal, background tasks
  inference   infers from a commit's files how it is built and run
  executors   run steps and make artifacts: the interface, `process/` and `docker/`
  git         repositories, smart HTTP, hooks, fetching, limits of a commit
  reports     parsers of JUnit, Cobertura, LCOV and SARIF
  gates       compare a build's figures with thresholds; stored reports, baselines, flaky tests
  analysis    measures the source: functions, secrets; excludes vendored and generated files
  builds      apps and builds: states, stores, commit statuses, queries
  secrets     secrets of apps: encrypted, given to steps, masked
  manifest    `slipway.yml`, completed by inference, and the graph of steps
  queue       decides which builds start; the workers that run them
  cache       reuse of builds that passed
  forges      GitHub, GitLab and Gitea: webhooks, their deliveries, commit statuses
  retention   deletion of old logs, artifacts and records; garbage collection
  triggers    start builds: pushes, pushes that wait for a verdict, repositories fetched from a forge
  pipeline    one run of one build, from checkout to deployment
  api         REST and HTML pages
`main.py` assembles them according to `config.py`.
"""
