"""The parts of the site in a box. Standard library only: it runs before anything is installed."""
