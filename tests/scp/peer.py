"""An association-requestor on a plain socket that sends the bytes it is told to, and reads PDUs.

Nothing of the project's own core, net or scu is in it: the SCP is judged by what goes over the wire.
"""

import contextlib
import select
import socket
import ssl
import struct
from types import TracebackType
from typing import Final, Self, TypeVar

from tests.core.messages import (
    COMMAND,
    CT,
    EXPLICIT,
    IMPLICIT,
    LAST_COMMAND,
    LAST_DATA,
    RELEASE_RQ,
    USER_ABORT,
    VERIFICATION,
    command_set,
    number,
    p_data,
    pdv,
    uid,
)

from dicomport.wire import (
    Abort,
    AssociateAC,
    AssociateRQ,
    Command,
    CStoreRSP,
    PDataTF,
    Pdu,
    PresentationContextRQ,
    RawCommand,
    ReleaseRP,
    UserInformation,
    decode,
    decode_command,
    encode,
)

__all__ = ["DATA_SET", "ECHO", "STORE", "Peer", "context", "request", "store", "store_command", "store_elements"]

PATIENCE: Final = 60.0
"""Seconds: only a test that fails waits that long."""

ECHO: Final = 1
"""The context id of Verification in `request`."""

STORE: Final = 3
"""The context id of CT Image Storage, in Explicit VR Little Endian, in `request`."""

DATA_SET: Final = bytes.fromhex("0800 0500 4353 0a00") + b"ISO_IR 100" + bytes.fromhex("1000 2000 4c4f 0400") + b"P-01"
"""Specific Character Set and Patient ID in Explicit VR Little Endian."""

CommandT = TypeVar("CommandT", bound=Command | RawCommand)


def context(number_: int, abstract_syntax: str, *transfer_syntaxes: str) -> PresentationContextRQ:
    """Propose a context, by default in Explicit and Implicit VR Little Endian."""
    return PresentationContextRQ(number_, abstract_syntax, transfer_syntaxes or (EXPLICIT, IMPLICIT))


def request(
    *contexts: PresentationContextRQ,
    calling: str = "MODALITY",
    called: str = "DICOMPORT",
    items: UserInformation | None = None,
) -> AssociateRQ:
    """Ask for an association, by default for Verification and CT Image Storage."""
    return AssociateRQ(
        called_ae_title=called,
        calling_ae_title=calling,
        presentation_contexts=contexts or (context(ECHO, VERIFICATION, IMPLICIT), context(STORE, CT)),
        user_information=items or UserInformation(maximum_length=16384, implementation_class_uid="1.2.3.5"),
    )


def store_elements(message_id: int = 1, sop_instance: str = "1.2.3.4", sop_class: str = CT) -> dict[int, bytes]:
    """List the elements of a C-STORE-RQ with a data set (PS3.7 9.3.1.1)."""
    return {
        0x0002: uid(sop_class),
        0x0100: number(0x0001),
        0x0110: number(message_id),
        0x0700: number(0),
        0x0800: number(0),
        0x1000: uid(sop_instance),
    }


def store_command(
    message_id: int = 1, sop_instance: str = "1.2.3.4", *, sop_class: str = CT, context_id: int = STORE
) -> bytes:
    """Put the P-DATA-TF of a C-STORE-RQ together."""
    return p_data(pdv(context_id, LAST_COMMAND, command_set(store_elements(message_id, sop_instance, sop_class))))


def store(
    message_id: int = 1,
    sop_instance: str = "1.2.3.4",
    data: bytes = DATA_SET,
    *,
    sop_class: str = CT,
    context_id: int = STORE,
) -> bytes:
    """Put a C-STORE-RQ and its data set together."""
    command = store_command(message_id, sop_instance, sop_class=sop_class, context_id=context_id)
    return command + p_data(pdv(context_id, LAST_DATA, data))


class Peer:
    """One transport connection, closed at the end of a `with` block."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", source: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """Connect, from the address `source` if one is given: every one of 127.0.0.0/8 is this machine's."""
        sock = socket.create_connection((host, port), timeout=PATIENCE, source_address=(source, 0) if source else None)
        self.socket = sock if tls is None else tls.wrap_socket(sock, server_hostname=host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(b"".join(pieces))

    def associate(self, wanted: AssociateRQ | None = None) -> AssociateAC:
        """Ask for an association and have it accepted."""
        reply = self.ask(wanted)
        assert isinstance(reply, AssociateAC), reply
        return reply

    def ask(self, wanted: AssociateRQ | None = None) -> Pdu | None:
        """Ask for an association."""
        self.send(encode(wanted or request()))
        return self.read()

    def read(self) -> Pdu | None:
        """Read one PDU; None where the connection is over."""
        header = self._read(6)
        if len(header) < 6:
            return None
        return decode(header + self._read(struct.unpack_from(">L", header, 2)[0]))

    def read_command(self) -> Command | RawCommand:
        """Read a command that has come in P-DATA-TFs of one fragment each."""
        data = b""
        while True:
            pdu = self.read()
            assert isinstance(pdu, PDataTF), pdu
            [value] = pdu.values
            assert value.is_command
            data += value.data
            if value.is_last:
                return decode_command(data)

    def answer(self, kind: type[CommandT]) -> CommandT:
        """Read a command of a kind."""
        command = self.read_command()
        assert isinstance(command, kind), command
        return command

    def store(self, message_id: int = 1, sop_instance: str = "1.2.3.4", data: bytes = DATA_SET) -> CStoreRSP:
        """Store an instance in one go, as a peer does of whom nothing strange is to be seen."""
        self.send(store(message_id, sop_instance, data))
        return self.answer(CStoreRSP)

    def release(self) -> None:
        """Release the association, and see the connection closed by nobody before us."""
        self.send(RELEASE_RQ)
        assert self.read() == ReleaseRP()

    def abort(self) -> None:
        """Abort the association and close."""
        self.send(USER_ABORT)
        self.socket.close()

    def reset(self) -> None:
        """Break the connection: nothing that is under way arrives any more."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def read_abort(self) -> Abort:
        """Read an A-ABORT."""
        pdu = self.read()
        assert isinstance(pdu, Abort), pdu
        return pdu

    @property
    def silent(self) -> bool:
        """Whether there is nothing to read, not even the end."""
        return not select.select([self.socket], [], [], 0)[0]

    def _read(self, size: int) -> bytes:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while len(data) < size:
                piece = self.socket.recv(size - len(data))
                if not piece:
                    break
                data += piece
        return data


def in_fragments(context_id: int, data: bytes, size: int) -> bytes:
    """Put the P-DATA-TFs of a data set together, one for each fragment of `size` bytes."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(
        p_data(pdv(context_id, LAST_DATA if part_number == len(parts) else 0, part))
        for part_number, part in enumerate(parts, 1)
    )


def command_fragments(context_id: int, elements: dict[int, bytes]) -> bytes:
    """Put the P-DATA-TF of a command set together, in two fragments."""
    data = command_set(elements)
    return p_data(pdv(context_id, COMMAND, data[:20]), pdv(context_id, LAST_COMMAND, data[20:]))
