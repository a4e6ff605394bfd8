"""C-STORE and C-ECHO from the requestor's side, as steps for asyncio and blocking programs (PS3.7 9.1.1, 9.1.5).

Theory of operation
-------------------
`StorageRequestor` adds two operations to `dicomport.dimse.Requestor`; a runner drives their steps in one task or
thread. `submit` and `next_response` are the two halves of a C-STORE, so that as many operations as `window` are
outstanding. `submit` reads an instance chunk by chunk and hands each chunk to the socket before it reads the next:
a chunk is a view of the reader's buffer and is valid until then. It opens the instance before it sends the command,
because a message that has begun cannot be withdrawn: if reading fails later, the association is aborted. With
`read_ahead`, the first chunk of the next instance is read while responses are awaited.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, TypedDict, Unpack

from dicomport.core import AcceptedContext, NegotiationResult
from dicomport.dimse import NoContextError, Requestor
from dicomport.net import ConnectionLostError, Steps, Timeouts
from dicomport.scu.inputs.instance import Instance, NotSendableError
from dicomport.scu.inputs.locations import FileRegion
from dicomport.scu.results import StoreResponse, Timing
from dicomport.standard import VERIFICATION, Status, describe
from dicomport.wire import AssociateRQ, CEchoRQ, CStoreRQ, FileMetaError, Priority

_CHUNK_BYTES: Final = 1 << 20
"""Number of bytes that are read of an instance and passed to the socket at a time."""

_MAX_CHUNK_PDUS: Final = 2048
"""Maximum number of P-DATA-TFs in a chunk: each one needs memory, and a peer may request tiny ones."""


class StoreOptions(TypedDict, total=False):
    """The optional fields of a C-STORE request (PS3.7 9.1.1.1)."""

    priority: Priority
    move_originator_ae_title: str
    move_originator_message_id: int | None


class StorageRequestor(Requestor):
    """One association that stores and verifies. Each method is for one runner at a time."""

    def __init__(self, request: AssociateRQ, timeouts: Timeouts) -> None:
        super().__init__(request, timeouts)
        self.open = True
        """Whether the association can be used."""
        self.timing = Timing()
        self._by_syntaxes: dict[tuple[str, str], AcceptedContext] = {}
        self.chunk_bytes = _CHUNK_BYTES
        """Number of bytes of an instance that are read and split into PDUs at a time."""
        self._ahead: tuple[FileRegion, memoryview, Iterator[memoryview]] | None = None
        """The beginning of the instance that is submitted next."""

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        """Run one operation in a `with` block, and decide after an exception whether others can follow.

        Raises `ConnectionLostError` if the association cannot be used any more.
        """
        if not self.open:
            raise ConnectionLostError("the association has ended")
        try:
            yield
        except BaseException as error:
            # After any other error a message may be half sent: only an abort can follow.
            self.open = isinstance(error, NoContextError | NotSendableError) and self.core.established
            raise

    def establish(self) -> Steps[NegotiationResult]:
        """Request the association over an open transport connection. Raises `AssociationError`."""
        outcome = yield from super().establish()
        if outcome.peer_maximum_length:
            self.chunk_bytes = min(_CHUNK_BYTES, _MAX_CHUNK_PDUS * outcome.peer_maximum_length)
        for context in self.core.contexts.values():
            self._by_syntaxes.setdefault((context.abstract_syntax, context.transfer_syntax), context)
        return outcome

    def echo(self) -> Steps[Status]:
        """Verify the association (PS3.7 9.1.5). Raises `NoContextError` and `AssociationError`."""
        context = self.find_context(VERIFICATION)
        if context is None:
            raise NoContextError("the association has no presentation context for verification")
        request = CEchoRQ(message_id=self.exchange.next_message_id(), affected_sop_class_uid=VERIFICATION)
        return (yield from self.request(context, request))

    def store(self, instance: Instance, **options: Unpack[StoreOptions]) -> Steps[StoreResponse]:
        """Send one instance, its bytes unchanged, and wait for the response. Raises the same errors as `submit`."""
        yield from self.submit(instance, **options)
        _, status = yield from self.next_response()
        return StoreResponse(instance.sop_instance_uid, status)

    def submit(self, instance: Instance, **options: Unpack[StoreOptions]) -> Steps[int]:
        """Send one instance, its bytes unchanged, and return the message id of the response (PS3.7 9.1.1).

        Raises `NoContextError` if the peer does not accept the SOP Class in this transfer syntax, `NotSendableError`
        if the instance cannot be read, which aborts the association if its message has begun, and `AssociationError`.
        """
        context = self.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
        if context is None:
            raise NoContextError(self._why_not(instance))
        # Read before anything is sent: an unreadable file then does not cost the association.
        first, chunks = self._begin(instance)
        request = CStoreRQ(
            message_id=self.exchange.next_message_id(),
            affected_sop_class_uid=instance.sop_class_uid,
            affected_sop_instance_uid=instance.sop_instance_uid,
            **options,
        )
        self.core.send_command(context.context_id, request)
        try:
            yield from self._send_data(context.context_id, first, chunks, instance.sent_size)
        except NotSendableError:
            # A message that has begun cannot be withdrawn.
            yield from self.abort()
            raise
        self.expect(request)
        return request.message_id

    def read_ahead(self, instance: Instance) -> None:
        """Read the beginning of the instance that is submitted next, if it is in a file.

        `submit` raises the errors of the file, and reads it again if it has changed.
        """
        if isinstance(instance.source, FileRegion):
            with contextlib.suppress(NotSendableError):
                self._ahead = (instance.source, *self._begin(instance))

    def next_response(self) -> Steps[tuple[int, Status]]:
        """Wait for the response to any outstanding request; return its message id and status.

        Other messages are answered. Raises `AssociationError`.
        """
        started = time.perf_counter()
        try:
            return (yield from super().next_response())
        finally:
            self.timing.waiting += time.perf_counter() - started

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> AcceptedContext | None:
        """Return the accepted presentation context for a SOP Class in a transfer syntax, if there is one."""
        return self._by_syntaxes.get((sop_class_uid, transfer_syntax_uid))

    def describe_accepted_syntaxes(self, instance: Instance) -> str:
        """Describe the other transfer syntaxes that the peer accepts for an instance's SOP Class; empty if none."""
        accepted = [
            describe(context.transfer_syntax)
            for context in self.core.contexts.values()
            if context.abstract_syntax == instance.sop_class_uid
        ]
        return f"the peer does not accept {_in_its_syntax(instance)}, only in {', '.join(accepted)}" if accepted else ""

    def _begin(self, instance: Instance) -> tuple[memoryview, Iterator[memoryview]]:
        """Return an instance's first chunk, and the others. Raises `NotSendableError` if it cannot be read."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            source, first, rest = ahead
            if source is instance.source and source.unchanged:
                return first, rest
        chunks = self._read(instance)
        return next(chunks), chunks

    def _read(self, instance: Instance) -> Iterator[memoryview]:
        """Yield an instance's chunks. Raises `NotSendableError` if it cannot be read."""
        chunks = instance.chunks(self.chunk_bytes)
        chunk: memoryview | None = None
        while True:
            started = time.perf_counter()
            try:
                chunk = next(chunks, None)
            except (OSError, FileMetaError) as error:
                how_far = "" if chunk is None else " to its end"
                raise NotSendableError(f"cannot be read{how_far}: {error}") from error
            finally:
                self.timing.reading += time.perf_counter() - started
            if chunk is None:
                return
            yield chunk

    def _send_data(self, context_id: int, first: memoryview, rest: Iterator[memoryview], size: int) -> Steps[None]:
        chunk = first
        while True:
            size -= len(chunk)
            self.core.send_data(context_id, chunk, last=size == 0)
            started = time.perf_counter()
            try:
                sent = yield from self.flush()
            finally:
                self.timing.sending += time.perf_counter() - started
            if not (sent and size):
                return
            chunk = next(rest)

    def _why_not(self, instance: Instance) -> str:
        """Return the reason why the association has no context for an instance."""
        instead = self.describe_accepted_syntaxes(instance)
        if instead:
            return f"{instead}: it would have to be converted (--convert, or Transform(convert=True))"
        proposed = self.outcome.contexts if self.outcome else ()
        reason = next((c.reason for c in proposed if c.abstract_syntax == instance.sop_class_uid), "")
        described = _in_its_syntax(instance)
        if not reason:
            return f"no presentation context was proposed for {described}"
        return f"the peer does not accept {described}: {reason}"


def _in_its_syntax(instance: Instance) -> str:
    return f"{describe(instance.sop_class_uid)} in {describe(instance.transfer_syntax_uid)}"
