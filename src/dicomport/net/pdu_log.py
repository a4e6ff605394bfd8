"""Log the PDUs of a connection at level debug, without patient data.

A data set is logged as a number of bytes and fragments only; secrets are left out, and long values are shortened.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from dicomport.core import Association, KnownRequests, Role
from dicomport.core.framing import ControlPdu, Fragment, Framer
from dicomport.logs import Logger, get_logger
from dicomport.standard import describe
from dicomport.wire import (
    APPLICATION_CONTEXT,
    DEFAULT_PROTOCOL_LIMITS,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    Buffer,
    PresentationContextAC,
    PresentationContextRQ,
    ProtocolError,
    ProtocolLimits,
    RawCommand,
    Response,
    UserInformation,
    decode,
    decode_command,
)

_SYNTAXES: Final = 4
"""Transfer syntaxes of a presentation context that are listed by name."""

log = get_logger("pdu")
_numbers = itertools.count(1)


def create_association(
    role: Role,
    limits: ProtocolLimits = DEFAULT_PROTOCOL_LIMITS,
    peer: str = "",
    known_requests: KnownRequests | None = None,
) -> Association:
    """Return a core; if level debug is enabled, one that logs its PDUs, with the address and port of `peer`."""
    if log.isEnabledFor(logging.DEBUG):
        numbered = log.bind(connection=next(_numbers))
        return _LoggedAssociation(role, limits, numbered.with_peer(peer) if peer else numbered, known_requests)
    return Association(role, limits=limits, known_requests=known_requests)


class _LoggedAssociation(Association):
    """A core that logs the PDUs that it receives and sends."""

    def __init__(
        self, role: Role, limits: ProtocolLimits, logger: Logger, known_requests: KnownRequests | None
    ) -> None:
        super().__init__(role, limits=limits, known_requests=known_requests)
        self._log = logger
        self._received = _Direction(limits, lambda fields: self._log.bind(**fields).debug("pdu_received"))
        self._sent = _Direction(limits, lambda fields: self._log.bind(**fields).debug("pdu_sent"))

    def receive(self, data: Buffer) -> None:
        self._received.feed(data)
        super().receive(data)

    def enter(self) -> tuple[memoryview, int] | None:
        """Return None: messages that a driver reads or writes itself would not be logged."""
        return None

    def take_output(self) -> list[Buffer]:
        output = super().take_output()
        for data in output:
            self._sent.feed(data)
        return output


class _Direction:
    """One of the two byte streams, split into PDUs and messages."""

    def __init__(self, limits: ProtocolLimits, write: Callable[[dict[str, object]], None]) -> None:
        self._framer = Framer(limits, Counter())
        self._limits = limits
        self._write = write
        self._command = bytearray()
        self._size = self._fragments = 0
        """Bytes and fragments of the current data set."""

    def feed(self, data: Buffer) -> None:
        """Log the PDUs in the next bytes; after an invalid PDU, nothing more is logged."""
        self._framer.feed(memoryview(data))
        try:
            while (frame := self._framer.next_frame()) is not None:
                if isinstance(frame, ControlPdu):
                    self._write(_pdu(frame.data, self._limits))
                elif isinstance(frame, Fragment):
                    self._log_fragment(frame)
        except ProtocolError as error:
            self._write({"pdu": "none", "reason": str(error)})

    def _log_fragment(self, fragment: Fragment) -> None:
        whole = fragment.is_last and fragment.ended
        if fragment.is_command:
            self._command += fragment.data[: self._limits.command_bytes - len(self._command)]
            if whole:
                self._write({"pdu": "P-DATA-TF", "context": fragment.context_id} | _command(bytes(self._command)))
                self._command.clear()
            return
        self._size += len(fragment.data)
        self._fragments += fragment.ended
        if whole:
            self._write(
                {
                    "pdu": "P-DATA-TF",
                    "context": fragment.context_id,
                    "data_set_bytes": self._size,
                    "fragments": self._fragments,
                }
            )
            self._size = self._fragments = 0


def _pdu(data: bytes, limits: ProtocolLimits) -> dict[str, object]:
    try:
        pdu = decode(data, limits=limits)
    except ProtocolError as error:
        return {"pdu": f"type {data[0]:02X}H", "reason": str(error)}
    fields: dict[str, object] = {"pdu": _NAMES[pdu.KIND]}
    match pdu:
        case AssociateRQ() | AssociateAC():
            fields |= _associate(pdu)
        case AssociateRJ(reason, transient=transient):
            fields |= {"result": "transient" if transient else "permanent", "reason": reason.meaning}
        case Abort(reason):
            fields |= {"reason": reason.meaning}
    return fields


def _associate(pdu: AssociateRQ | AssociateAC) -> dict[str, object]:
    other = pdu.application_context if pdu.application_context != APPLICATION_CONTEXT else ""
    return {
        "called": pdu.called_ae_title,
        "calling": pdu.calling_ae_title,
        "application_context": other,
        "contexts": [_context(context) for context in pdu.presentation_contexts],
        **dict(_items(pdu.user_information)),
        "unknown": [f"item {item.kind:02X}H of {len(item.body)} bytes" for item in pdu.unknown],
    }


def _context(context: PresentationContextRQ | PresentationContextAC) -> str:
    if isinstance(context, PresentationContextAC):
        chosen = f" {describe(context.transfer_syntax)}" if context.result == 0 else ""
        return f"{context.context_id} {context.result.name.lower()}{chosen}"
    syntaxes = [describe(uid) for uid in context.transfer_syntaxes[:_SYNTAXES]]
    more = len(context.transfer_syntaxes) - len(syntaxes)
    return f"{context.context_id} {describe(context.abstract_syntax)} in {', '.join(syntaxes)}" + (
        f" and {more} more" if more else ""
    )


def _items(items: UserInformation) -> Iterator[tuple[str, object]]:
    yield "maximum_length", items.maximum_length
    yield "implementation", f"{items.implementation_class_uid or ''} {items.implementation_version_name or ''}".strip()
    if items.operations_window is not None:
        yield "operations_window", f"{items.operations_window.invoked}/{items.operations_window.performed}"
    yield "roles", [f"{describe(role.sop_class_uid)} SCU {role.scu:d} SCP {role.scp:d}" for role in items.roles]
    yield "extended", [f"{describe(item.sop_class_uid)} {item.information[:16].hex()}" for item in items.extended]
    yield (
        "common_extended",
        [f"{item.sop_class_uid} is of {describe(item.service_class_uid)}" for item in items.common_extended],
    )
    if items.user_identity is not None:
        wanted = ", with a response" if items.user_identity.positive_response_requested else ""
        yield "user_identity", f"of type {items.user_identity.identity_type}{wanted}"
    if items.user_identity_response is not None:
        yield "user_identity_response", "given"
    yield "unknown_items", [f"item {item.kind:02X}H of {len(item.body)} bytes" for item in items.unknown]


def _command(data: bytes) -> dict[str, object]:
    try:
        command = decode_command(data)
    except ProtocolError as error:
        return {"command": "malformed", "reason": str(error)}
    if isinstance(command, RawCommand):
        return {"command": f"{command.command_field:04X}H", "has_data_set": command.has_data_set}
    fields = {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
    if isinstance(command, Response):
        fields["status"] = f"0x{command.status:04X}"
    return {"command": _name(type(command).__name__)} | fields


def _name(name: str) -> str:
    """Return the name of a command's class in the standard's spelling: C-STORE-RQ, N-EVENT-REPORT-RQ."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=^[CN])", "-", name).upper()


_NAMES: Final = {
    0x01: "A-ASSOCIATE-RQ",
    0x02: "A-ASSOCIATE-AC",
    0x03: "A-ASSOCIATE-RJ",
    0x04: "P-DATA-TF",
    0x05: "A-RELEASE-RQ",
    0x06: "A-RELEASE-RP",
    0x07: "A-ABORT",
}
"""Names by PDU type (PS3.8 9.3.1)."""
