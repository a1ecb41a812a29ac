"""The app's manifest: parsing with line numbers, inference from other files, and the graph of its steps."""
