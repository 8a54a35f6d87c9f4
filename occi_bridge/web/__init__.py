"""HTTP: from a request to an operation of the service, and back."""
