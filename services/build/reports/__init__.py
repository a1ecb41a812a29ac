"""Reports of steps (JUnit, Cobertura, LCOV, SARIF): parsing them, and mapping their paths to files of the commit."""
