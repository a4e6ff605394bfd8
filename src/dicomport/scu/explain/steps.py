"""The steps of an explained association: their facts, times and failures."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from dicomport.core import NegotiationResult
from dicomport.net import Endpoint, FailedAttempt
from dicomport.net.tls.certificates import Certificate
from dicomport.standard import Status
from dicomport.values import frozen
from dicomport.wire import AssociateRQ


@frozen
class Failure:
    """The cause of a failed step, and advice, as text. A peer's own text in it is not escaped."""

    cause: str
    advice: str


@frozen(kw_only=True)
class _Step:
    NAME: ClassVar[str]

    seconds: float
    failure: Failure | None = None
    """None if the step succeeded."""


@frozen(kw_only=True)
class Resolved(_Step):
    """The host name was resolved."""

    NAME: ClassVar = "resolve"

    endpoints: tuple[Endpoint, ...]


@frozen(kw_only=True)
class Connected(_Step):
    """The TCP connection was opened."""

    NAME: ClassVar = "connect"

    failed: tuple[FailedAttempt, ...]
    """The endpoints that failed."""
    endpoint: Endpoint | None
    """The endpoint that is connected; None if all failed."""


@frozen(kw_only=True)
class Secured(_Step):
    """TLS was negotiated."""

    NAME: ClassVar = "tls"

    version: str = ""
    cipher: str = ""
    certificate: Certificate | None = None
    """The peer's certificate, also an untrusted one if the peer sent it."""
    certificate_asked: bool = False
    """Whether the peer requested a client certificate."""


@frozen(kw_only=True)
class Associated(_Step):
    """The association was requested."""

    NAME: ClassVar = "associate"

    request: AssociateRQ
    left_out: str = ""
    """The items that this request lacks, after the peer has closed the connection on a request with them."""
    outcome: NegotiationResult | None = None
    dropped: bool = False
    """Whether the peer closed the connection instead of responding."""


@frozen(kw_only=True)
class Echoed(_Step):
    """The association was verified by C-ECHO."""

    NAME: ClassVar = "echo"

    round_trips: tuple[float, ...] = ()
    """Time of each C-ECHO, seconds."""
    status: Status | None = None
    """The last status."""


@frozen(kw_only=True)
class Released(_Step):
    """The association was released."""

    NAME: ClassVar = "release"


Step: TypeAlias = Resolved | Connected | Secured | Associated | Echoed | Released
"""Any step."""
