"""Serves feature flags: values in flagd's format that change a running app without a deploy, for each environment.

Redis holds the flags. Each instance of this service (there may be several) evaluates from memory, so that apps get
answers while Redis is down. A write appends the keys of the changed flags to a stream; every instance follows the
stream and reads these flags. Each of these files may import only those above it:

flag, validation         a flag's definition, the plain Redis keys that hold its value; faults of definitions
change, diff             changes by a write, `If-Match`, disabled targeting rules; differences for people
slices                   divides long work on the event loop
import_export            reads and writes flagd files
evaluation, flag_set     evaluates a flag with flagd's reference evaluator; the flags of one environment
store, app_user_store    stores flags in Redis; manages the Redis user of apps
importer                 imports flagd files in a thread
cache, last_used, auth   flags in memory; times of last evaluation; tokens, stream tickets, authors of changes
view, page               flags as JSON and as pages (templates/)
*api                     REST; OFREP; export and import; pages and their buttons
main                     assembles the service
"""
