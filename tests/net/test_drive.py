"""A stream that passes bytes to a function in the read callback."""

import asyncio
import socket
from typing import Any

from dicomport.net.stream import Stream
from dicomport.net.timers import Timer


class _WokenError(Exception):
    pass


def test_a_function_may_interrupt_the_wait_that_it_serves() -> None:
    """The task that waits raises the interruption, and the event loop reports no error."""
    faults: list[dict[str, Any]] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
            stream = Stream(server.accept()[0])
            taken: list[bytes] = []

            def take(view: memoryview) -> None:
                taken.append(bytes(view))
                stream.interrupt(_WokenError())

            peer.sendall(b"bytes")
            try:
                await stream.drive(take, Timer("silence", 30.0), b"before ")
            except _WokenError:
                taken.append(b"woken")
            stream.close()
            assert taken == [b"before bytes", b"woken"]

    asyncio.run(scenario())
    assert faults == []
