"""What `storescp` adds to its options: settings, archive, hooks, workers."""
