"""The page in the browser: forms and HTML in front of the same operations as OCCI has."""
