"""The stack in containers: `make up` and `make down`, the network of the apps, first-run secrets."""
