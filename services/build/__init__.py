"""Build: takes pushes, runs a commit's steps, judges it by gates, seals what passed, hands it to the deployer.

A build: queued → running → success | failure | error | cancelled | superseded. Every push of a mapped branch becomes
one, in a fresh checkout of that very commit; it survives the service, and ends once.

A delivery of a forge's webhook: received → ignored | fetched | queued | failed, and received again if it is asked for.

Domain, pure
  app.py            branches, minimum gates and source of an app
  source.py         the outside repository that an app is fetched from
  webhook.py        signatures and payloads of GitHub, Gitea and GitLab
  delivery.py       a delivery's record, states and changes
  status.py         a build → a status for each stage; forge_status.py: as each forge wants it
  build.py          a build's record, states and changes
  secret.py         an app's secrets: names, limits, which step gets which, and the forms in which they are hidden
  mask.py           hides texts in other texts
  schedule.py       which builds start and which make way; apps take turns
  reuse.py          when two builds would be judged alike, so that the second one is not run
  gate.py           thresholds against figures, failing closed
  figure.py         figures, and the places that they are made of
  report.py         JUnit, Cobertura, LCOV, SARIF; case.py: one test for a person
  place.py          names of files in reports → files of the commit
  measures.py       reports and tools' answers → figures
  baseline.py       figures against an earlier build: changed lines, new findings
  flaky.py          tests that fail and pass on one commit; what is excused and what is not
  manifest_file.py  slipway.yml, with lines in its faults
  step_plan.py      which steps run, after which others, and which beside each other
  convention.py     what tells where there is no manifest
  tree.py           which trees of commits are taken
  output.py         whatever a step prints → lines
  badge.py
  timeline.py       where a build's time went
  report_record.py  what is kept of reports; source_view.py: a file with their marks
  comparison.py     a build beside an earlier one
  expiry.py         which logs, artifacts and records are no longer kept
What happens
  git_http.py, repository.py            git over HTTP, bare repositories; push_refusal.py: how a giant is refused
  push_socket.py, hooks/, intake.py     from the hooks to queued builds, and back to the pusher
  door.py, door_objects.py              pushes that are accepted only once their commit has passed
  receiver.py, delivery_store.py        what a webhook is answered, and the log of deliveries
  mirror.py, fetch.py                   from deliveries to fetched branches and queued builds
  status_store.py, status_outbox.py     commit statuses, on their way to the forge
  secret_store.py, secret_api.py        secrets of apps, kept encrypted
  workers.py, run.py, pipeline.py       the builds that run; ledger.py keeps each step of them
  reading.py, recall.py, passed_store.py  a commit's manifest; what passed already, found and remembered
  deployment.py, deadline.py            the last stage; the limits of all
  lease_store.py                        whose builds they are, if two services share a Redis
  step_flow.py                          steps as their plan says
  step_runner.py, collect.py            one step, its reports, and its second run if tests fail
  executor.py                           how steps are run and what passed is sealed: the port
  process_executor.py, command.py, pipe.py  as processes, in place; wall.py keeps other projects' rules away from them
  docker_executor.py, container_*.py    in containers; image.py builds the image, dockerfile.py its file if need be
  remove.py                             removes whatever steps left, and never behind a link
  docker_pull.py, docker_fact.py        images that they run in; what the engine knows of them
  docker_output.py                      what containers print, brought into the event loop
  service_process.py                    services of a step as processes
  docker_services.py                    and in containers
  manifest_api.py                       the manifest's JSON schema
  leftovers.py, docker_leftovers.py     what is left of ended builds and deleted apps
  expire.py                             removes them, if the deployer agrees
  upkeep.py                             packs the repositories, and loses no build's commit by that
  report_file.py, analysis.py, tool.py  fresh reports; lizard and detect-secrets, in bounds
  deploy.py                             the deployer
  history_store.py, flaky_api.py        baselines, runs of tests, quarantines; changed.py: what a commit changes
  listing.py, listing_api.py            the history, filtered
  report_files.py, report_api.py        kept reports, and their pages
  build_log.py, log_page.py             logs, followed and by line
  page.py, api.py, webhook_api.py, store.py, config.py, main.py
"""
