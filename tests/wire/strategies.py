"""Any value of each PDU, item, command and file meta that this side may write."""

from typing import Final, TypeVar

from hypothesis import strategies as st

from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    ContextResult,
    CStoreRQ,
    CStoreRSP,
    FileMeta,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    PDataTF,
    Pdu,
    PresentationContextAC,
    PresentationContextRQ,
    PresentationDataValue,
    Priority,
    RawCommand,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    Response,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)

T = TypeVar("T")

SUB_ITEM_KINDS: Final = frozenset(range(0x51, 0x5A))
"""The sub-items of the user information that have a class or a field."""

u8: Final = st.integers(0, 0xFF)
u16: Final = st.integers(0, 0xFFFF)
u32: Final = st.integers(0, 0xFFFFFFFF)
blobs: Final = st.binary(max_size=40)
flags: Final = st.booleans()


def unpadded(max_size: int, *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Build Latin-1 text that no reader takes padding off."""
    return st.text(st.characters(codec="latin-1"), min_size=min_size, max_size=max_size).filter(
        lambda text: text == text.strip("\0 ")
    )


def few(items: st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    """Build a tuple of some."""
    return st.lists(items, max_size=most).map(tuple)


real_uids: Final = st.lists(st.integers(0, 99999).map(str), min_size=2, max_size=9).map(".".join)
mandatory_uids: Final = real_uids | unpadded(64, min_size=1)
uids: Final = real_uids | unpadded(64)
ae_titles: Final = unpadded(16).filter(lambda text: "\0" not in text)


def unknown_items(*known: int) -> st.SearchStrategy[UnknownItem]:
    """Build items of all types but those."""
    return st.builds(UnknownItem, u8.filter(lambda kind: kind not in known), blobs)


contexts_rq: Final = st.builds(PresentationContextRQ, u8, uids, few(uids), few(unknown_items(0x40)))
contexts_ac: Final = st.builds(PresentationContextAC, u8, st.sampled_from(ContextResult), uids)
windows: Final = st.builds(AsynchronousOperationsWindow, u16, u16)
roles: Final = st.builds(RoleSelection, uids, flags, flags)
extended: Final = st.builds(SOPClassExtendedNegotiation, uids, blobs)
common_extended: Final = st.builds(SOPClassCommonExtendedNegotiation, uids, uids, few(uids))
identities: Final = st.builds(UserIdentityRQ, u8, flags, blobs, blobs)
identity_responses: Final = st.builds(UserIdentityAC, blobs)
user_information: Final = st.builds(
    UserInformation,
    maximum_length=st.none() | u32,
    implementation_class_uid=st.none() | uids,
    implementation_version_name=st.none() | unpadded(20),
    operations_window=st.none() | windows,
    roles=few(roles),
    extended=few(extended),
    common_extended=few(common_extended),
    user_identity=st.none() | identities,
    user_identity_response=st.none() | identity_responses,
    unknown=few(unknown_items(*SUB_ITEM_KINDS)),
)
items: Final = st.one_of(
    contexts_rq,
    contexts_ac,
    user_information,
    windows,
    roles,
    extended,
    common_extended,
    identities,
    identity_responses,
)

requests: Final = st.builds(
    AssociateRQ,
    called_ae_title=ae_titles,
    calling_ae_title=ae_titles,
    presentation_contexts=few(contexts_rq),
    user_information=user_information,
    application_context=uids,
    protocol_version=u16,
    unknown=few(unknown_items(0x20)),
)
acceptances: Final = st.builds(
    AssociateAC,
    called_ae_title=ae_titles,
    calling_ae_title=ae_titles,
    presentation_contexts=few(contexts_ac),
    user_information=user_information,
    application_context=uids,
    protocol_version=u16,
    unknown=few(unknown_items(0x21)),
)
rejections: Final = st.builds(AssociateRJ, st.sampled_from(RejectReason), flags)
data_values: Final = st.builds(PresentationDataValue, u8, flags, flags, blobs)
data: Final = st.builds(PDataTF, few(data_values))
aborts: Final = st.builds(Abort, st.sampled_from(AbortReason))
pdus: Final[st.SearchStrategy[Pdu]] = st.one_of(
    requests, acceptances, rejections, data, st.just(ReleaseRQ()), st.just(ReleaseRP()), aborts
)

texts: Final = unpadded(64)
_response: Final = {
    "has_data_set": flags,
    "message_id_being_responded_to": u16,
    "status": u16,
    "affected_sop_class_uid": uids,
    "affected_sop_instance_uid": uids,
    "offending_element": few(u32),
    "error_comment": texts,
    "error_id": st.none() | u16,
}


def responses(command: type[Response], **fields: st.SearchStrategy[int | None]) -> st.SearchStrategy[Response]:
    """Build responses of one class."""
    return st.builds(command, **_response, **fields)


commands: Final[st.SearchStrategy[Command]] = st.one_of(
    st.builds(
        CStoreRQ,
        has_data_set=flags,
        message_id=u16,
        affected_sop_class_uid=mandatory_uids,
        affected_sop_instance_uid=mandatory_uids,
        priority=st.sampled_from(Priority) | u16,
        move_originator_ae_title=unpadded(16),
        move_originator_message_id=st.none() | u16,
    ),
    st.builds(CEchoRQ, has_data_set=flags, message_id=u16, affected_sop_class_uid=mandatory_uids),
    st.builds(
        NEventReportRQ,
        has_data_set=flags,
        message_id=u16,
        affected_sop_class_uid=mandatory_uids,
        affected_sop_instance_uid=mandatory_uids,
        event_type_id=u16,
    ),
    st.builds(
        NActionRQ,
        has_data_set=flags,
        message_id=u16,
        requested_sop_class_uid=mandatory_uids,
        requested_sop_instance_uid=mandatory_uids,
        action_type_id=u16,
    ),
    st.builds(CCancelRQ, has_data_set=flags, message_id_being_responded_to=u16),
    responses(CStoreRSP),
    responses(CEchoRSP),
    responses(NEventReportRSP, event_type_id=st.none() | u16),
    responses(NActionRSP, action_type_id=st.none() | u16),
)

raw_commands: Final = st.dictionaries(u16.filter(lambda number: number != 0), blobs, max_size=6).map(RawCommand)

file_metas: Final = st.builds(
    FileMeta,
    media_storage_sop_class_uid=uids,
    media_storage_sop_instance_uid=uids,
    transfer_syntax_uid=uids,
    implementation_class_uid=uids,
    implementation_version_name=unpadded(16),
    source_ae_title=unpadded(16),
    sending_ae_title=unpadded(16),
    receiving_ae_title=unpadded(16),
)
