"""From a received instance to a durable, listed one."""
