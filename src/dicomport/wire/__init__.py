"""Encode and decode PDUs, command sets and File Meta Information as frozen values.

The package imports no socket, file or clock. Decoding raises only `ProtocolError` (or `FileMetaError`). The data sets
of storage commitment are in `commitment`, which a plain sender does not import, to start faster.
"""

from dicomport.wire.command_sets import (
    CommandError as CommandError,
    Element as Element,
    RawCommand as RawCommand,
    encode_uid as encode_uid,
    find_value as find_value,
)
from dicomport.wire.commands import (
    CCancelRQ as CCancelRQ,
    CEchoRQ as CEchoRQ,
    CEchoRSP as CEchoRSP,
    Command as Command,
    CStoreRQ as CStoreRQ,
    CStoreRSP as CStoreRSP,
    NActionRQ as NActionRQ,
    NActionRSP as NActionRSP,
    NEventReportRQ as NEventReportRQ,
    NEventReportRSP as NEventReportRSP,
    Priority as Priority,
    Response as Response,
    decode_command as decode_command,
    encode_command as encode_command,
)
from dicomport.wire.cursor import Buffer as Buffer
from dicomport.wire.deviations import Deviation as Deviation
from dicomport.wire.errors import (
    AbortReason as AbortReason,
    EncodeError as EncodeError,
    LimitExceededError as LimitExceededError,
    ProtocolError as ProtocolError,
    strip_traceback as strip_traceback,
)
from dicomport.wire.filemeta import (
    EmptyFileError as EmptyFileError,
    FileMeta as FileMeta,
    FileMetaError as FileMetaError,
    NotPart10Error as NotPart10Error,
    TruncatedFileMetaError as TruncatedFileMetaError,
    decode_file_meta as decode_file_meta,
    encode_file_meta as encode_file_meta,
    file_meta_around_uid as file_meta_around_uid,
)
from dicomport.wire.items import (
    APPLICATION_CONTEXT as APPLICATION_CONTEXT,
    AsynchronousOperationsWindow as AsynchronousOperationsWindow,
    ContextResult as ContextResult,
    PresentationContextAC as PresentationContextAC,
    PresentationContextRQ as PresentationContextRQ,
    RoleSelection as RoleSelection,
    SOPClassCommonExtendedNegotiation as SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation as SOPClassExtendedNegotiation,
    UnknownItem as UnknownItem,
    UserIdentityAC as UserIdentityAC,
    UserIdentityRQ as UserIdentityRQ,
    UserInformation as UserInformation,
)
from dicomport.wire.limits import DEFAULT_PROTOCOL_LIMITS as DEFAULT_PROTOCOL_LIMITS, ProtocolLimits as ProtocolLimits
from dicomport.wire.pdus import (
    COMMAND as COMMAND,
    LAST as LAST,
    P_DATA_HEADERS as P_DATA_HEADERS,
    PDU_HEADER as PDU_HEADER,
    PDV_HEADER as PDV_HEADER,
    Abort as Abort,
    AssociateAC as AssociateAC,
    AssociateRJ as AssociateRJ,
    AssociateRQ as AssociateRQ,
    PDataTF as PDataTF,
    Pdu as Pdu,
    PresentationDataValue as PresentationDataValue,
    RejectReason as RejectReason,
    ReleaseRP as ReleaseRP,
    ReleaseRQ as ReleaseRQ,
    decode as decode,
    encode as encode,
)
from dicomport.wire.protocol_guess import UNRECOGNIZED_BYTES as UNRECOGNIZED_BYTES, guess_protocol as guess_protocol
