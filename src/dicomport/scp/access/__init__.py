"""Access to the receiver: rules for peers, acceptance of associations, user identities, passwords."""
