"""DIMSE messages over fragments (PS3.7 6.3 and 8.1, PS3.8 Annex E): assembled on the way in, cut on the way out."""

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

__all__ = ["MessageAssembler", "split_into_pdus"]

_PDV_OVERHEAD: Final = 6


class MessageAssembler:
    """Makes events of fragments. Command sets are kept until they are whole, data sets are never kept.

    The fragments of one message follow one another, on one Presentation Context, command first (PS3.8 E.2): anything
    else is a `ProtocolError`.
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
        """The context of the command that is being read; 0 is between messages."""
        self._data_context = 0
        """The context of the data set that is to come; 0 while none is."""
        self._unannounced_context = 0
        """The context of a command that said that no data set follows, for as long as nothing has followed."""

    @property
    def between_messages(self) -> bool:
        """Whether the last message is complete and no other has begun."""
        return not (self._command_context or self._data_context)

    def take(self, fragment: Fragment) -> CoreEvent | None:
        """Take one fragment or a part of one; give what is now known."""
        context = self._contexts.get(fragment.context_id)
        if context is None:
            raise ProtocolError(f"a fragment on presentation context {fragment.context_id}, which was not accepted")
        if fragment.is_command:
            return self._take_command(fragment, context)
        if fragment.context_id == self._data_context:
            last = fragment.is_last and fragment.ended
            if last:
                self._data_context = 0
            return DataReceived(fragment.data, last)
        if fragment.context_id == self._unannounced_context:
            # The peer sends a data set though its command denied it. The command is answered as it stood.
            if fragment.is_last and fragment.ended:
                self._notes[Deviation.DATA_SET_UNANNOUNCED] += 1
                self._unannounced_context = 0
            return None
        raise ProtocolError(f"a data set fragment on context {fragment.context_id}, where none is to come")

    def _take_command(self, fragment: Fragment, context: AcceptedContext) -> CoreEvent | None:
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
            most = self._limits.command_fragments
            raise LimitExceededError(f"a command set in more than {most} fragments", "command_fragments")
        return self._end_command(context) if fragment.is_last and fragment.ended else None

    def _end_command(self, context: AcceptedContext) -> CoreEvent:
        data = bytes(self._command)
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
    """Cut bytes into P-DATA-TFs of one PDV each, as a gather list: headers and views of `data` in turn.

    `maximum_length` bounds each P-DATA-TF's body (PS3.8 D.1); fragments are of even length but where the data is not
    (E.1).
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
