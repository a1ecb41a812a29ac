"""The five services. Each is a package that runs alone; none imports another."""
