"""Build logs: masking of secrets, splitting terminal output into lines, storing and following them."""
