"""DIMSE messages and fragments (PS3.7 6.3 and 8.1, PS3.8 Annex E): assemble received ones, split sent ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from dicomport.core.events import CommandMalformed, CommandReceived, CoreEvent, DataReceived
from dicomport.core.framing import Fragment
from dicomport.core.negotiation import AcceptedContext
from dicomport.wire import (
    COMMAND,
    LAST,
    P_DATA_HEADERS,
    Buffer,
    CommandError,
    Deviation,
    LimitExceededError,
    PDataTF,
    ProtocolError,
    ProtocolLimits,
    decode_command,
    strip_traceback,
)

_PDV_OVERHEAD: Final = 6


class MessageAssembler:
    """Converts fragments to events. Command sets are collected until complete; data sets are passed on in parts.

    The fragments of one message must be consecutive, on one Presentation Context, command first (PS3.8 E.2); otherwise
    the assembler raises `ProtocolError`.
    """

    def __init__(
        self, contexts: Mapping[int, AcceptedContext], limits: ProtocolLimits, notes: Counter[Deviation]
    ) -> None:
        self._contexts = contexts
        self._limits = limits
        self._notes = notes
        self._command = bytearray()
        self._command_fragments = 0
        self._command_context = 0
        """The context of the current, incomplete command; 0 between messages."""
        self._data_context = 0
        """The context of the expected data set; 0 if none is expected."""
        self._unannounced_context = 0
        """The context of the last command without a data set, until the next fragment of another message."""
        self.last_command = b""
        """The last complete command set, encoded."""

    @property
    def between_messages(self) -> bool:
        """Whether the last message is complete and the next has not begun."""
        return not (self._command_context or self._data_context)

    def enter(self, *, after_response: bool) -> bool:
        """Return whether the caller may read the next messages itself; `leave` ends this.

        Without `after_response`, it may not after a command without a data set.
        """
        return self.between_messages and (after_response or not self._unannounced_context)

    def leave(self, data_context: int, response_context: int) -> None:
        """Continue in a data set on this context; 0 is between two messages.

        `response_context` is that of the last response that the caller has read, 0 if it has read none.
        """
        self._data_context = data_context
        if response_context:
            self._unannounced_context = response_context

    def add(self, fragment: Fragment) -> CoreEvent | None:
        """Add a fragment or a part of one; return the event that results, if any. Raises `ProtocolError`."""
        context = self._contexts.get(fragment.context_id)
        if context is None:
            raise ProtocolError(f"a fragment on presentation context {fragment.context_id}, which was not accepted")
        if fragment.is_command:
            return self._add_command(fragment, context)
        if fragment.context_id == self._data_context:
            last = fragment.is_last and fragment.ended
            if last:
                self._data_context = 0
            return DataReceived(fragment.data, last)
        if fragment.context_id == self._unannounced_context:
            # The peer sends a data set that its command did not announce. The command was answered without it.
            if fragment.is_last and fragment.ended:
                self._notes[Deviation.DATA_SET_UNANNOUNCED] += 1
                self._unannounced_context = 0
            return None
        raise ProtocolError(f"a data set fragment on context {fragment.context_id}, but no data set was announced")

    def _add_command(self, fragment: Fragment, context: AcceptedContext) -> CoreEvent | None:
        if self._data_context:
            raise ProtocolError(f"a command fragment inside the data set on context {self._data_context}")
        if self._command_context not in (0, fragment.context_id):
            raise ProtocolError(
                f"a command fragment on context {fragment.context_id} inside a command on {self._command_context}"
            )
        self._unannounced_context = 0
        self._command_context = fragment.context_id
        self._command += fragment.data
        self._command_fragments += fragment.ended
        if len(self._command) > self._limits.command_bytes:
            raise LimitExceededError(f"a command set of more than {self._limits.command_bytes} bytes", "command_bytes")
        if self._command_fragments > self._limits.command_fragments:
            maximum = self._limits.command_fragments
            raise LimitExceededError(f"a command set in more than {maximum} fragments", "command_fragments")
        return self._end_command(context) if fragment.is_last and fragment.ended else None

    def _end_command(self, context: AcceptedContext) -> CoreEvent:
        data = self.last_command = bytes(self._command)
        self._command.clear()
        self._command_context = self._command_fragments = 0
        event: CommandReceived | CommandMalformed
        try:
            command = decode_command(data, self._notes)
            event, has_data_set = CommandReceived(context, command), command.has_data_set
        except CommandError as error:
            event, has_data_set = CommandMalformed(context, strip_traceback(error)), error.command.has_data_set
        if has_data_set:
            self._data_context = context.context_id
        else:
            self._unannounced_context = context.context_id
        return event


def split_into_pdus(
    context_id: int, data: Buffer, *, is_command: bool, last: bool, maximum_length: int
) -> Iterator[Buffer]:
    """Yield P-DATA-TFs of one PDV each, as a gather list: header and view of `data` in turn.

    `maximum_length` bounds each P-DATA-TF's body in bytes (PS3.8 D.1). Fragments have an even length, except the last
    of data with an odd length (E.1).
    """
    view = memoryview(data)
    step = (maximum_length - _PDV_OVERHEAD) & ~1
    control = COMMAND if is_command else 0
    for start in range(0, len(view) or 1, step):
        part = view[start : start + step]
        ends = last and start + step >= len(view)
        size = len(part)
        yield P_DATA_HEADERS.pack(
            PDataTF.KIND, size + _PDV_OVERHEAD, size + 2, context_id, control | (LAST if ends else 0)
        )
        yield part
