"""The steps of an explained association, as text and as JSON objects."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from dicomport.cli.console import print_message
from dicomport.cli.options.common import ExitCode
from dicomport.cli.text import print_json, round_trip_times
from dicomport.core import NegotiationResult
from dicomport.net import FailedAttempt
from dicomport.net.tls.certificates import Certificate
from dicomport.scu.explain.advice import refused_classes
from dicomport.scu.explain.steps import Associated, Connected, Echoed, Released, Resolved, Secured, Step
from dicomport.standard import describe, find_transfer_syntax
from dicomport.wire import AssociateRQ

_TITLES: Final = {
    "resolve": "name",
    "connect": "TCP",
    "tls": "TLS",
    "associate": "association",
    "echo": "C-ECHO",
    "release": "release",
}


async def print_steps(steps: AsyncGenerator[Step, None], *, as_json: bool, shows_messages: bool) -> ExitCode:
    """Print each step when it ends; return the exit code."""
    code = ExitCode.NO_ASSOCIATION
    async with contextlib.aclosing(steps):
        async for step in steps:
            if as_json:
                print_json(_describe_step(step))
            if shows_messages or step.failure:
                print_message(*_step_lines(step))
            if isinstance(step, Associated) and step.outcome is not None:
                code = ExitCode.FAILED
            if isinstance(step, Echoed) and not step.failure:
                code = ExitCode.OK
    return code


def _step_lines(step: Step) -> Iterator[str]:
    """Yield the lines of a step."""
    title = _TITLES[step.NAME]
    if isinstance(step, Associated) and step.left_out:
        title += f" without {step.left_out}"
    yield f"{title}: {'failed' if step.failure else 'done'} after {step.seconds * 1000:.1f} ms"
    for line in _facts(step):
        yield f"  {line}"
    if step.failure:
        yield f"  cause: {step.failure.cause}"
        yield f"  advice: {step.failure.advice}"


def _facts(step: Step) -> Iterator[str]:
    match step:
        case Resolved():
            if step.endpoints:
                yield ", ".join(map(str, step.endpoints))
        case Connected():
            yield from (f"{attempt.endpoint}: {_why(attempt)}" for attempt in step.failed)
            if step.endpoint is not None:
                yield f"{step.endpoint} answered"
        case Secured():
            yield from _tls_facts(step)
        case Associated(outcome=NegotiationResult() as outcome):
            yield from _association_facts(step.request, outcome)
            if not step.failure:
                yield from (f"advice: {line}" for line in refused_classes(outcome))
            if step.left_out:
                yield f"the peer aborts an association that proposes {step.left_out}: configure senders without it"
        case Echoed() if step.round_trips:
            yield f"round trips: {len(step.round_trips)}, {round_trip_times(step.round_trips)}"


def _why(attempt: FailedAttempt) -> str:
    # The text of asyncio's error repeats the address.
    return os.strerror(attempt.error.errno) if attempt.error.errno else str(attempt.error)


def _tls_facts(step: Secured) -> Iterator[str]:
    if step.version:
        yield f"{step.version}, {step.cipher}"
    if step.certificate is not None:
        certificate = step.certificate
        names = ", ".join(certificate.names) or "(no names)"
        yield f"certificate of {certificate.subject or '(empty subject)'}, for {names}"
        yield f"  issued by {certificate.issuer or '(empty issuer)'}"
        yield f"  valid from {certificate.not_before:%Y-%m-%d %H:%M} to {certificate.not_after:%Y-%m-%d %H:%M} UTC"
        yield f"  SHA-256 {certificate.fingerprint}"
    yield f"the peer {'asked' if step.certificate_asked else 'did not ask'} for a client certificate"


def _association_facts(request: AssociateRQ, outcome: NegotiationResult) -> Iterator[str]:
    yield f"{request.called_ae_title!r} accepted {request.calling_ae_title!r}"
    yield f"implementation: {outcome.peer.class_uid or 'not named'} {outcome.peer.version_name}".rstrip()
    yield f"maximum PDU length of the peer: {outcome.peer_maximum_length or 'no limit'}"
    yield f"granted asynchronous operations: {outcome.operations_window.invoked or 'no limit'}"
    identity = request.user_information.user_identity
    if identity is not None and identity.positive_response_requested:
        yield f"user identity: {'not checked' if outcome.user_identity_response is None else 'accepted'}"
    denied = [describe(role.sop_class_uid) for role in outcome.roles if not role.scu]
    if outcome.roles:
        yield f"roles: answered for {len(outcome.roles)} SOP Classes; as SCU we may send {_all_but(denied)}"
    yield from dict.fromkeys(f"storage: {_storage_level(item.information)}" for item in outcome.extended)
    yield f"contexts: {len(outcome.accepted)} of {len(outcome.contexts)} accepted"
    for answer, classes in _same_answers(request, outcome).items():
        yield f"  {', '.join(classes)}"
        yield from (f"    {line}" for line in answer)


def _same_answers(request: AssociateRQ, outcome: NegotiationResult) -> dict[tuple[str, ...], list[str]]:
    """Return SOP Classes by the answer that their contexts received."""
    proposed = {context.context_id: context.transfer_syntaxes for context in request.presentation_contexts}
    by_class: dict[str, dict[str, list[str]]] = {}
    for context in outcome.contexts:
        chosen = (context.transfer_syntax,) if context.transfer_syntax else proposed[context.context_id]
        by_reason = by_class.setdefault(context.abstract_syntax, {})
        by_reason.setdefault(context.reason, []).extend(map(_short, chosen))
    found: dict[tuple[str, ...], list[str]] = {}
    for uid, by_reason in by_class.items():
        answer = tuple(f"{reason}: {', '.join(syntaxes)}" for reason, syntaxes in by_reason.items())
        found.setdefault(answer, []).append(describe(uid))
    return found


def _all_but(denied: list[str]) -> str:
    return f"all but {', '.join(denied)}" if denied else "all of them"


def _storage_level(information: bytes) -> str:
    """Return the peer's level of storage and coercion as text (PS3.4 B.3.1.2)."""
    level = _LEVELS.get(information[0] if information else -1, "level not specified")
    coercion = _COERCIONS.get(information[4] if len(information) > 4 else -1, "coercion not specified")
    return f"{level}; {coercion}"


_LEVELS: Final = {
    0: "stores some attributes (level 0)",
    1: "stores all attributes of types 1 and 2 (level 1)",
    2: "stores all attributes (level 2)",
}
_COERCIONS: Final = {0: "coerces no attribute", 1: "may coerce attributes"}


def _short(uid: str) -> str:
    syntax = find_transfer_syntax(uid)
    return uid if syntax is None else syntax.keyword


def _describe_step(step: Step) -> dict[str, object]:
    """Return a step as a JSON object."""
    failure = step.failure
    return {
        "step": step.NAME,
        "milliseconds": _milliseconds(step.seconds),
        "failure": failure and {"cause": failure.cause, "advice": failure.advice},
        **_described_facts(step),
    }


def _described_facts(step: Step) -> dict[str, object]:
    match step:
        case Resolved():
            return {"addresses": list(map(str, step.endpoints))}
        case Connected():
            failed = [{"address": str(attempt.endpoint), "error": _why(attempt)} for attempt in step.failed]
            return {"failed": failed, "address": step.endpoint and str(step.endpoint)}
        case Secured():
            return {
                "version": step.version,
                "cipher": step.cipher,
                "certificate": step.certificate and _described_certificate(step.certificate),
                "certificate_asked": step.certificate_asked,
            }
        case Associated():
            facts = {"left_out": step.left_out, "dropped": step.dropped, "accepted": step.outcome is not None}
            return facts | (_described_outcome(step.request, step.outcome) if step.outcome is not None else {})
        case Echoed():
            return {
                "status": step.status and step.status.code,
                "round_trips": list(map(_milliseconds, step.round_trips)),
            }
        case Released():
            return {}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _described_certificate(certificate: Certificate) -> dict[str, object]:
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "names": list(certificate.names),
        "sha256": certificate.fingerprint,
    }


def _described_outcome(request: AssociateRQ, outcome: NegotiationResult) -> dict[str, object]:
    proposed = {context.context_id: context.transfer_syntaxes for context in request.presentation_contexts}
    return {
        "implementation_class_uid": outcome.peer.class_uid,
        "implementation_version_name": outcome.peer.version_name,
        "maximum_length": outcome.peer_maximum_length,
        "operations_window": [outcome.operations_window.invoked, outcome.operations_window.performed],
        "roles": [{"sop_class_uid": role.sop_class_uid, "scu": role.scu, "scp": role.scp} for role in outcome.roles],
        "extended": [
            {"sop_class_uid": item.sop_class_uid, "information": item.information.hex()} for item in outcome.extended
        ],
        "refused_classes": list(refused_classes(outcome)),
        "user_identity_accepted": outcome.user_identity_response is not None,
        "contexts": [
            {
                "context_id": context.context_id,
                "sop_class_uid": context.abstract_syntax,
                "proposed": list(proposed[context.context_id]),
                "result": context.result.value,
                "transfer_syntax_uid": context.transfer_syntax,
                "reason": context.reason,
            }
            for context in outcome.contexts
        ],
    }
