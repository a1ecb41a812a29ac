raise SystemExit("not run by Slipway yet")
