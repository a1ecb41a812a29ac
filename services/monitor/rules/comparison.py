"""Judges a canary's reading against production's over the same seconds. Pure."""

from services.monitor.rules.rule import Reading, Rule

MUCH_WORSE = 2.0


def against_production(rule: Rule, canary: Reading, production: Reading) -> Reading:
    """Returns the canary's reading as it counts for the rule. Where production is clearly inside the rule's bound (at
    or below `clear`), or nothing is known of it, the canary's own value counts. Where production is near the bound or
    beyond it, both may have the same cause: the canary's value then counts only if it is at least twice production's,
    and is 0 otherwise.
    """
    if canary.value is None or canary.value <= rule.clears_at or production.value is None:
        return canary
    evidence = {**canary.evidence, "production": production.value}
    if production.value <= rule.clears_at or canary.value >= MUCH_WORSE * production.value:
        return Reading(canary.value, canary.description, evidence)
    return Reading(0.0, f"{canary.description}, but so it is in production: {production.description}", evidence)
