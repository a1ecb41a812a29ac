"""`make demo`: an app's way from push to production, measured and printed line by line."""
