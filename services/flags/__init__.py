"""Serves feature flags: values in flagd's format that change a running app without a deploy, for each environment.

Redis holds the truth. Each instance of this service (there may be several) evaluates from memory, so apps get answers
while Redis is down. A write appends to a stream which flags it changed; every instance follows the stream and reads
those flags. Files, each of which may import only those above it:

flag, validation         a flag's definition, the plain Redis keys that hold its value; finds faults with their paths
change, diff             writes with `If-Match`, disabling of targeting rules; differences for people
slices                   long work on the event loop, in slices
import_export            flagd files
evaluation, flag_set     flag and context → value, by flagd's reference evaluator; the flags of one environment
store, app_user_store    flags in Redis; the Redis user of apps
importer                 imports, in a thread
cache, last_used, auth   flags in memory; time of a flag's last evaluation; tokens, stream tickets, who made a change
view, page               flags as JSON and as pages (templates/)
*api                     REST; OFREP; export and import; pages and their buttons
main                     composition root
"""
