"""The steps of an association that is explained, as values: what was found out, how long it took, and what failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from dicomport.core import NegotiationResult
from dicomport.net import Endpoint, FailedAttempt
from dicomport.net.tls.certificates import Certificate
from dicomport.standard import Status
from dicomport.wire import AssociateRQ

__all__ = ["Associated", "Connected", "Echoed", "Failure", "Released", "Resolved", "Secured", "Step"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step failed, and what to do about it, in words for a person. A peer's own text in it is not escaped."""

    cause: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    NAME: ClassVar[str]

    seconds: float
    failure: Failure | None = None
    """None where the step was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(_Step):
    """The name was looked up."""

    NAME: ClassVar = "resolve"

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(_Step):
    """TCP."""

    NAME: ClassVar = "connect"

    failed: tuple[FailedAttempt, ...]
    """The endpoints that were tried before the one that answered, or in vain."""
    endpoint: Endpoint | None
    """The one that answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured(_Step):
    """TLS."""

    NAME: ClassVar = "tls"

    version: str = ""
    cipher: str = ""
    certificate: Certificate | None = None
    """The peer's; also one that is not trusted, where it could be had."""
    certificate_asked: bool = False
    """Whether the peer asked for a certificate of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Associated(_Step):
    """The association was asked for."""

    NAME: ClassVar = "associate"

    request: AssociateRQ
    left_out: str = ""
    """What this request does not propose any more, after the peer had dropped the one that did."""
    outcome: NegotiationResult | None = None
    dropped: bool = False
    """Whether the peer ended the connection instead of answering."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoed(_Step):
    """C-ECHO, as often as was asked for."""

    NAME: ClassVar = "echo"

    round_trips: tuple[float, ...] = ()
    """Seconds of each."""
    status: Status | None = None
    """The last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(_Step):
    """The association was released."""

    NAME: ClassVar = "release"


Step: TypeAlias = Resolved | Connected | Secured | Associated | Echoed | Released
"""Any of them."""
