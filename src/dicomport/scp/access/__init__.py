"""Access: rules for peers, acceptance, user identity, passwords."""
