"""Association requests that explore a peer: the full one, and smaller ones if the peer does not respond to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Final

from dicomport.scu.contexts import ContextLike
from dicomport.standard import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    SOPClass,
    TransferSyntax,
    sop_classes,
    transfer_syntaxes,
)
from dicomport.values import frozen
from dicomport.wire import (
    AssociateRQ,
    AsynchronousOperationsWindow,
    PresentationContextRQ,
    RoleSelection,
    SOPClassExtendedNegotiation,
)

_PLAIN: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
_COMPRESSED: Final = frozenset(
    ("JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "JPEG2000", "RLELossless")
)

_IMAGES: Final = (
    sop_classes.CTImageStorage,
    sop_classes.EnhancedCTImageStorage,
    sop_classes.MRImageStorage,
    sop_classes.EnhancedMRImageStorage,
    sop_classes.ComputedRadiographyImageStorage,
    sop_classes.DigitalXRayImageStorageForPresentation,
    sop_classes.DigitalMammographyXRayImageStorageForPresentation,
    sop_classes.UltrasoundImageStorage,
    sop_classes.UltrasoundMultiFrameImageStorage,
    sop_classes.XRayAngiographicImageStorage,
    sop_classes.NuclearMedicineImageStorage,
    sop_classes.PositronEmissionTomographyImageStorage,
    sop_classes.SecondaryCaptureImageStorage,
)
_OTHERS: Final = (
    sop_classes.GrayscaleSoftcopyPresentationStateStorage,
    sop_classes.KeyObjectSelectionDocumentStorage,
    sop_classes.BasicTextSRStorage,
    sop_classes.EnhancedSRStorage,
    sop_classes.ComprehensiveSRStorage,
    sop_classes.XRayRadiationDoseSRStorage,
    sop_classes.EncapsulatedPDFStorage,
    sop_classes.RTStructureSetStorage,
    sop_classes.RTPlanStorage,
    sop_classes.RTDoseStorage,
)


def _each(classes: Iterable[SOPClass], syntaxes: Sequence[TransferSyntax]) -> list[ContextLike]:
    # A separate context for each syntax: of several in one context, the peer accepts only one.
    return [(sop_class, syntax) for sop_class in classes for syntax in syntaxes]


USUAL_CONTEXTS: Final[tuple[ContextLike, ...]] = (
    *_each(_IMAGES, (*_PLAIN, *(syntax for syntax in transfer_syntaxes if syntax.keyword in _COMPRESSED))),
    *_each(_OTHERS, _PLAIN),
)
"""The most used storage SOP Classes, each in its usual transfer syntaxes: with Verification, they fit into one
association."""

_SCU_ONLY: Final = bytes((3, 0, 0, 0, 2, 0))
"""Service Class Application Information of a requestor that is only an SCU (PS3.4 B.3.1.1)."""


def with_optional_items(request: AssociateRQ) -> AssociateRQ:
    """Add the optional items whose responses are shown: a window, the roles and extended negotiation of storage."""
    classes = dict.fromkeys(
        context.abstract_syntax
        for context in request.presentation_contexts
        if sop_classes.is_storage(context.abstract_syntax)
    )
    information = dataclasses.replace(
        request.user_information,
        operations_window=AsynchronousOperationsWindow(0, 1),
        roles=tuple(RoleSelection(uid, scu=True, scp=False) for uid in classes),
        extended=tuple(SOPClassExtendedNegotiation(uid, _SCU_ONLY) for uid in classes),
    )
    return dataclasses.replace(request, user_information=information)


@frozen
class Proposal:
    """A request, and a description of the items that it lacks."""

    request: AssociateRQ
    left_out: str = ""


def proposals(request: AssociateRQ) -> list[Proposal]:
    """Return the request, then smaller ones without the items on which some peers close the connection."""
    found = [Proposal(request)]
    information = request.user_information
    windowless = dataclasses.replace(information, operations_window=None)
    bare = dataclasses.replace(windowless, roles=(), extended=(), common_extended=())
    verification = PresentationContextRQ(1, VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN.uid,))
    for left_out, change in (
        ("the asynchronous operations window (item 53H)", {"user_information": windowless}),
        ("optional items (53H, 54H, 56H)", {"user_information": bare}),
        ("anything but Verification", {"user_information": bare, "presentation_contexts": (verification,)}),
    ):
        smaller = dataclasses.replace(request, **change)
        if smaller != found[-1].request:
            found.append(Proposal(smaller, left_out))
    return found
