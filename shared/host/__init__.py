"""Facts of the machine that two services need: Docker Engine, processes, directories, subnets."""
