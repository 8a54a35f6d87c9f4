"""The one configuration file, and what its settings may be."""
