"""TLS: contexts, certificates, the handshake."""
