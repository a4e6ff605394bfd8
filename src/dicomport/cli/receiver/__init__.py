"""Parts of `storescp`: configuration file, archives, storage commitment, hooks, workers."""
