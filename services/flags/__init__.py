"""Feature flags: switches and values that change a running app, per environment, in flagd's format.

A flag is `ENABLED` or `DISABLED`. Redis holds the truth; every copy of the service evaluates from memory, so that apps
get answers while Redis is away. Each write increments a version in the same transaction and is announced by
publish/subscribe, so that the other copies notice it at once, or with their next poll. Files, in import order:

flag, validation         a flag's definition and mirrors; every fault of a definition, with its path
change, diff             writes with `If-Match`, the switch, rules set aside; readable differences
import_export            flagd files
evaluation               flag and context → value, by flagd's reference evaluator
store, app_user_store    flags in Redis; the Redis user of apps
cache, last_used, auth   the copy in memory; last evaluation of a flag; tokens, stream tickets, the actor
view, page               flags as JSON and as pages (templates/)
*api                     REST; OFREP; export and import; pages and the switch
main                     composition root
"""
