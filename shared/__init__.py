"""What two or more services use: settings, the app factory, the registry, events, calls between services.

Imports no service. A new piece enters only when a second service needs it.
"""

__version__ = "0.1.0"
