"""A scripted acceptor: a thread on a raw socket, one function of bytes and values for each connection.

    with scripted(serving(0xA700), refusing) as peer:
        report = dicomport.blocking.send(files, "127.0.0.1", peer.port)
    assert peer.links[0].stored == [...]

After the last connection the port is closed: whoever comes then is refused.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from dicomport.wire import (
    COMMAND,
    LAST,
    PDU_HEADER,
    Abort,
    AssociateAC,
    AssociateRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    ContextResult,
    CStoreRQ,
    CStoreRSP,
    PDataTF,
    Pdu,
    PresentationContextAC,
    PresentationContextRQ,
    RawCommand,
    ReleaseRP,
    ReleaseRQ,
    Response,
    UserInformation,
    decode,
    decode_command,
    encode_command,
)

PATIENCE: Final = 30.0
"""Seconds until a test that waits for something that never comes fails instead of hanging."""

IMPLICIT: Final = "1.2.840.10008.1.2"

Answer: TypeAlias = Callable[[PresentationContextRQ], PresentationContextAC | None]
"""Answers a proposed context; None leaves it out."""


@dataclass(frozen=True)
class Message:
    """A command and its data set, as they came."""

    context_id: int
    command: Command | RawCommand
    data: bytes
    fragments: tuple[int, ...]
    """Lengths of the data set's fragments, bytes."""
    longest: int
    """Length of the longest P-DATA-TF body, bytes."""

    @property
    def message_id(self) -> int:
        raw = self.command if isinstance(self.command, RawCommand) else self.command.to_raw()
        return raw.message_id


Heard: TypeAlias = Message | Pdu | None
"""A message, a PDU other than P-DATA-TF, or None for the end of the connection."""


def accepted(proposed: PresentationContextRQ) -> PresentationContextAC:
    """Accept a context with its first transfer syntax."""
    return PresentationContextAC(proposed.context_id, ContextResult.ACCEPTED, proposed.transfer_syntaxes[0])


def refused(
    proposed: PresentationContextRQ, result: ContextResult = ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED
) -> PresentationContextAC:
    """Refuse a context."""
    return PresentationContextAC(proposed.context_id, result, IMPLICIT)


class Link:
    """One connection, from the acceptor's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.request: AssociateRQ | None = None
        self.heard: list[Message | Pdu] = []
        """All that came after the request, data included unless it was discarded."""
        sock.settimeout(PATIENCE)

    @property
    def messages(self) -> list[Message]:
        return [heard for heard in self.heard if isinstance(heard, Message)]

    @property
    def stored(self) -> list[str]:
        """The SOP Instance UIDs of the C-STORE requests that came whole."""
        commands = [message.command for message in self.messages]
        return [command.affected_sop_instance_uid for command in commands if isinstance(command, CStoreRQ)]

    @property
    def pdus(self) -> list[Pdu]:
        return [heard for heard in self.heard if not isinstance(heard, Message)]

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))

    def read(self, size: int) -> bytes:
        """Read so many bytes, fewer only at the end of the connection."""
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self.sock.recv_into(view)
            except ConnectionError:
                count = 0
            if count == 0:
                break
            view = view[count:]
        return bytes(data[: size - len(view)])

    def read_pdu(self) -> bytes:
        """Read one PDU with its header; nothing at the end of the connection."""
        header = self.read(PDU_HEADER.size)
        if len(header) < PDU_HEADER.size:
            return b""
        body = self.read(PDU_HEADER.unpack(header)[1])
        return header + body

    def read_request(self) -> AssociateRQ:
        request = decode(self.read_pdu())
        assert isinstance(request, AssociateRQ)
        self.request = request
        return request

    def accept(self, answer: Answer = accepted, *, maximum_length: int | None = 16384) -> AssociateRQ:
        """Read the request and accept the association."""
        request = self.read_request()
        self.send(acceptance(request, answer, maximum_length=maximum_length).encode())
        return request

    def hear(self, *, keep: bool = True) -> Heard:
        """Read whatever comes next."""
        command = b""
        context_id = 0
        decoded: Command | RawCommand | None = None
        data: list[bytes] = []
        fragments: list[int] = []
        longest = 0
        while True:
            pdu = self.read_pdu()
            if not pdu:
                return None
            if pdu[0] != PDataTF.KIND:
                other = decode(pdu)
                self.heard.append(other)
                return other
            longest = max(longest, len(pdu) - PDU_HEADER.size)
            for number, control, part in values(pdu):
                context_id = number
                if control & COMMAND:
                    command += part
                    if control & LAST:
                        decoded = decode_command(command)
                else:
                    fragments.append(len(part))
                    data.append(part if keep else b"")
            if decoded is not None and (control & LAST) and (not control & COMMAND or not has_data_set(decoded)):
                message = Message(context_id, decoded, b"".join(data), tuple(fragments), longest)
                self.heard.append(message if keep else replace(message, fragments=()))
                return message

    def message(self) -> Message:
        """Read a message: a script that expects one fails where anything else comes."""
        heard = self.hear()
        assert isinstance(heard, Message), heard
        return heard

    def answer(self, message: Message, command: Command | RawCommand) -> None:
        self.send(p_data(message.context_id, encode_command(command)))

    def respond(self, message: Message, status: int = 0, *, message_id: int | None = None) -> None:
        """Answer a C-STORE or C-ECHO request."""
        self.answer(message, response(message, status, message_id=message_id))

    def serve(self, statuses: Iterable[int] = ()) -> None:
        """Answer everything, C-STOREs with these statuses and then with successes, until the requestor ends it."""
        codes = iter(statuses)
        while True:
            match self.hear():
                case Message(command=CStoreRQ()) as message:
                    self.respond(message, next(codes, 0))
                case Message(command=RawCommand(is_response=True) | Response()):
                    pass
                case Message() as message:
                    self.respond(message)
                case ReleaseRQ():
                    self.send(ReleaseRP().encode())
                    self.drain()
                    return
                case None | Abort():
                    return
                case other:
                    raise AssertionError(other)

    def drain(self) -> None:
        """Read until the requestor closes."""
        while self.read(1 << 16):
            pass

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Script: TypeAlias = Callable[[Link], None]


def values(pdu: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Cut a P-DATA-TF into its PDVs: context id, message control header, fragment."""
    at = PDU_HEADER.size
    while at < len(pdu):
        size, context_id, control = struct.unpack_from(">LBB", pdu, at)
        yield context_id, control, pdu[at + 6 : at + 4 + size]
        at += 4 + size


def has_data_set(command: Command | RawCommand) -> bool:
    return command.has_data_set


def p_data(context_id: int, data: bytes, control: int = COMMAND | LAST) -> bytes:
    """Put a P-DATA-TF of one PDV together (PS3.8 9.3.5)."""
    return struct.pack(">BxLLBB", PDataTF.KIND, len(data) + 6, len(data) + 2, context_id, control) + data


def acceptance(request: AssociateRQ, answer: Answer = accepted, *, maximum_length: int | None = 16384) -> AssociateAC:
    answers = (answer(context) for context in request.presentation_contexts)
    return AssociateAC(
        called_ae_title=request.called_ae_title,
        calling_ae_title=request.calling_ae_title,
        presentation_contexts=tuple(context for context in answers if context is not None),
        user_information=UserInformation(maximum_length=maximum_length, implementation_class_uid="1.2.3.5"),
    )


def response(message: Message, status: int = 0, *, message_id: int | None = None) -> CStoreRSP | CEchoRSP:
    number = message.message_id if message_id is None else message_id
    match message.command:
        case CStoreRQ() as asked:
            return CStoreRSP(
                message_id_being_responded_to=number,
                status=status,
                affected_sop_class_uid=asked.affected_sop_class_uid,
                affected_sop_instance_uid=asked.affected_sop_instance_uid,
            )
        case CEchoRQ() as asked:
            return CEchoRSP(
                message_id_being_responded_to=number,
                status=status,
                affected_sop_class_uid=asked.affected_sop_class_uid,
            )
        case other:
            raise AssertionError(other)


def serving(*statuses: int, answer: Answer = accepted, maximum_length: int | None = 16384) -> Script:
    """Make the script of a peer that does all that it should."""

    def script(link: Link) -> None:
        link.accept(answer, maximum_length=maximum_length)
        link.serve(statuses)

    return script


def replying(*pdus: bytes) -> Script:
    """Make the script of a peer that answers the request with these bytes, and reads on until the requestor closes."""

    def script(link: Link) -> None:
        link.read_request()
        link.send(*pdus)
        while link.hear() is not None:
            pass

    return script


class ScriptedPeer:
    """Where the peer listens, and what came over its connections so far."""

    def __init__(self, scripts: tuple[Script, ...], receive_buffer: int) -> None:
        self.links: list[Link] = []
        self.error: BaseException | None = None
        self._scripts = scripts
        self._listening = socket.socket()
        if receive_buffer:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="scripted-peer", daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[AssociateRQ]:
        return [link.request for link in self.links if link.request is not None]

    @property
    def stored(self) -> list[list[str]]:
        """The SOP Instance UIDs that came whole, by connection."""
        return [link.stored for link in self.links]

    def _run(self) -> None:
        with contextlib.closing(self._listening):
            for number, script in enumerate(self._scripts, 1):
                try:
                    sock, _ = self._listening.accept()
                except OSError:
                    return  # The test is over.
                if number == len(self._scripts):
                    self._listening.close()
                link = Link(sock)
                self.links.append(link)
                with contextlib.closing(sock):
                    try:
                        script(link)
                    except BaseException as error:  # noqa: BLE001  # it fails the test, in the test's own thread
                        self.error = error
                        return

    def finish(self, *, failed: bool) -> None:
        """Wait for the scripts to end; where the test has failed, they are not waited for."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        if failed:
            for link in self.links:
                with contextlib.suppress(OSError):
                    link.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None and not failed:
            raise self.error


@contextlib.contextmanager
def scripted(*scripts: Script, receive_buffer: int = 0) -> Iterator[ScriptedPeer]:
    """Listen for one connection per script. Afterwards the scripts are over, and what failed in them is raised."""
    peer = ScriptedPeer(scripts, receive_buffer)
    try:
        yield peer
    except BaseException:
        peer.finish(failed=True)
        raise
    peer.finish(failed=False)


def unused_port() -> int:
    """Give a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
