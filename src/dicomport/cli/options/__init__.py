"""The options that commands share, one module a subject."""
