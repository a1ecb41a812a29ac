"""Serves feature flags: values in flagd's format that change a running app without a deploy, for each environment.

Redis holds the truth. Each instance of this service (there may be several) evaluates from memory, so apps get answers
while Redis is down. A write increments a version in the same transaction and announces it by publish/subscribe; other
instances reload at once, or at their next poll of the version. Files, each of which may import only those above it:

flag, validation         a flag's definition, the plain Redis keys that hold its value; finds faults with their paths
change, diff             writes with `If-Match`, disabling of targeting rules; differences for people
import_export            flagd files
evaluation               flag and context → value, by flagd's reference evaluator
store, app_user_store    flags in Redis; the Redis user of apps
cache, last_used, auth   flags in memory; time of a flag's last evaluation; tokens, stream tickets, who made a change
view, page               flags as JSON and as pages (templates/)
*api                     REST; OFREP; export and import; pages and their buttons
main                     composition root
"""
