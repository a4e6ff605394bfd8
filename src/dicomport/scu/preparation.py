"""What instances go through before they are sent, where the sender was asked for it."""

from __future__ import annotations

from dicomport.scu.client import ClientAssociation
from dicomport.scu.instances import Instance
from dicomport.scu.plan import uncompressed_default

__all__ = ["Preparation"]


class Preparation:
    """Leaves instances as they are."""

    def alternatives(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        """Give the transfer syntaxes that are proposed beside an instance's own, in the order of preference."""
        return uncompressed_default(transfer_syntax_uid)

    async def prepare(self, instance: Instance, association: ClientAssociation) -> Instance:
        """Give what is to be sent in an instance's place over an association. Raises `NotSendableError`."""
        return instance
