"""TLS for our services: contexts, names in certificates, the HTTPS server."""
