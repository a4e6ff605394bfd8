"""One interface to the asyncio and the blocking requestor, so that each test tests both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pydicom
import pytest

import dicomport
from dicomport.core import NegotiationResult
from dicomport.scu import Instance, SendReport

T = TypeVar("T")


class Association(Protocol):
    """The interface of `dicomport.ClientAssociation`."""

    outcome: NegotiationResult
    open: bool

    async def c_store(self, what: str | Path | pydicom.Dataset | Instance, /) -> dicomport.StoreResponse: ...
    async def c_echo(self) -> dicomport.Status: ...
    async def release(self) -> None: ...
    async def abort(self) -> None: ...


class Blocking:
    """A blocking association in the clothes of an asyncio one. It does block the loop: nothing else runs in it."""

    def __init__(self, association: Any) -> None:
        self.blocking = association

    @property
    def open(self) -> bool:
        return bool(self.blocking.open)

    @property
    def outcome(self) -> NegotiationResult:
        outcome: NegotiationResult = self.blocking.outcome
        return outcome

    async def c_store(self, what: str | Path | pydicom.Dataset | Instance, /) -> dicomport.StoreResponse:
        response: dicomport.StoreResponse = self.blocking.c_store(what)
        return response

    async def c_echo(self) -> dicomport.Status:
        status: dicomport.Status = self.blocking.c_echo()
        return status

    async def release(self) -> None:
        self.blocking.release()

    async def abort(self) -> None:
        self.blocking.abort()


@contextlib.asynccontextmanager
async def _associate_blocking(host: str, port: int, **options: Any) -> AsyncIterator[Any]:
    with dicomport.blocking.associate(host, port, **options) as association:
        yield Blocking(association)


async def _send_blocking(what: Any, host: str, port: int, **options: Any) -> SendReport:
    return dicomport.blocking.send(what, host, port, **options)


@dataclass(frozen=True)
class Api:
    """One of the two faces."""

    name: str
    associate: Callable[..., AbstractAsyncContextManager[Any]]
    send: Callable[..., Awaitable[SendReport]]

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(scenario)


APIS: Final = (
    Api("asyncio", dicomport.associate, dicomport.send),
    Api("blocking", _associate_blocking, _send_blocking),
)

with_both = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
