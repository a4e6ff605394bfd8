"""pynetdicom as an independent oracle: each side decodes the bytes of the other."""

from dataclasses import replace
from typing import Any, Final

import pytest
from pynetdicom import dimse_messages, dimse_primitives, pdu, pdu_primitives
from pynetdicom.presentation import build_context
from tests.wire.command_goldens import COMMANDS
from tests.wire.pdu_goldens import ASSOCIATE_AC_VALUE, ASSOCIATE_RQ_VALUE, CT, EXPLICIT, IMPLICIT, PDUS, VERIFICATION

from dicomport.wire import (
    AssociateAC,
    AssociateRQ,
    Command,
    ContextResult,
    CStoreRQ,
    PresentationContextAC,
    PresentationContextRQ,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
    decode,
    decode_command,
    encode,
    encode_command,
)
from dicomport.wire.items import AsynchronousOperationsWindow, RoleSelection, UserIdentityAC

THEIR_PDUS: Final = {
    1: pdu.A_ASSOCIATE_RQ,
    2: pdu.A_ASSOCIATE_AC,
    3: pdu.A_ASSOCIATE_RJ,
    4: pdu.P_DATA_TF,
    5: pdu.A_RELEASE_RQ,
    6: pdu.A_RELEASE_RP,
    7: pdu.A_ABORT_RQ,
}

# pynetdicom drops items that it does not know, and cannot write the empty transfer syntax that it reads.
READ_ONLY: Final = {"A-ASSOCIATE-RQ", "A-ASSOCIATE-AC"}


def negotiation() -> list[Any]:
    """Build every negotiation item of a request, as pynetdicom's users do."""
    length = pdu_primitives.MaximumLengthNotification()
    length.maximum_length_received = 32768
    implementation = pdu_primitives.ImplementationClassUIDNotification()
    implementation.implementation_class_uid = "1.2.826.0.1.3680043.9.3811.3.0.4"
    version = pdu_primitives.ImplementationVersionNameNotification()
    version.implementation_version_name = "PYNETDICOM_304"
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 3
    window.maximum_number_operations_performed = 4
    role = pdu_primitives.SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = CT
    role.scu_role = False
    role.scp_role = True
    extended = pdu_primitives.SOPClassExtendedNegotiation()
    extended.sop_class_uid = CT
    extended.service_class_application_information = b"\x02\x00\x03\x00\x01\x00"
    common = pdu_primitives.SOPClassCommonExtendedNegotiation()
    common.sop_class_uid = CT
    common.service_class_uid = "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = ["1.2.840.10008.5.1.4.1.1.88.22", "1.2.3"]
    identity = pdu_primitives.UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.positive_response_requested = True
    identity.primary_field = b"user"
    identity.secondary_field = b"passcode"
    return [length, implementation, version, window, role, extended, common, identity]


def test_we_read_its_request_with_every_negotiation_item() -> None:
    first = build_context(VERIFICATION, [IMPLICIT])
    second = build_context(CT, [EXPLICIT, IMPLICIT])
    first.context_id, second.context_id = 1, 3
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "PYNETDICOM"
    primitive.called_ae_title = "ANY-SCP"
    primitive.presentation_context_definition_list = [first, second]
    primitive.user_information = negotiation()
    theirs = pdu.A_ASSOCIATE_RQ()
    theirs.from_primitive(primitive)

    assert decode(theirs.encode()) == AssociateRQ(
        called_ae_title="ANY-SCP",
        calling_ae_title="PYNETDICOM",
        presentation_contexts=(
            PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
            PresentationContextRQ(3, CT, (EXPLICIT, IMPLICIT)),
        ),
        user_information=UserInformation(
            maximum_length=32768,
            implementation_class_uid="1.2.826.0.1.3680043.9.3811.3.0.4",
            implementation_version_name="PYNETDICOM_304",
            operations_window=AsynchronousOperationsWindow(3, 4),
            roles=(RoleSelection(CT, scu=False, scp=True),),
            extended=(SOPClassExtendedNegotiation(CT, b"\x02\x00\x03\x00\x01\x00"),),
            common_extended=(
                SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.2.840.10008.5.1.4.1.1.88.22", "1.2.3")),
            ),
            user_identity=UserIdentityRQ(2, True, b"user", b"passcode"),
        ),
    )


def test_it_reads_our_acceptance() -> None:
    theirs = pdu.A_ASSOCIATE_AC()
    theirs.decode(encode(ASSOCIATE_AC_VALUE))
    primitive = theirs.to_primitive()
    assert [
        (context.context_id, context.result) for context in primitive.presentation_context_definition_results_list
    ] == [(context.context_id, context.result) for context in ASSOCIATE_AC_VALUE.presentation_contexts]
    assert primitive.maximum_length_received == 131072
    assert primitive.implementation_class_uid == "1.2.826.0.1.98"
    by_type: dict[str, Any] = {type(item).__name__: item for item in primitive.user_information}
    assert by_type["ImplementationVersionNameNotification"].implementation_version_name == "PEER"
    assert by_type["UserIdentityNegotiation"].server_response == b"\xde\xad\xbe\xef"


@pytest.mark.parametrize("name", [name for name in PDUS if name not in READ_ONLY])
def test_pynetdicom_decodes_and_encodes_our_bytes(name: str) -> None:
    ours = encode(PDUS[name][1])
    theirs = THEIR_PDUS[ours[0]]()
    theirs.decode(ours)
    assert theirs.encode() == ours
    assert decode(theirs.encode()) == PDUS[name][1]


def test_it_reads_our_request_and_writes_the_same() -> None:
    user = replace(ASSOCIATE_RQ_VALUE.user_information, unknown=())
    ours = encode(replace(ASSOCIATE_RQ_VALUE, user_information=user, unknown=()))
    theirs = pdu.A_ASSOCIATE_RQ()
    theirs.decode(ours)
    assert theirs.encode() == ours


def test_it_reads_our_acceptance_and_writes_the_same() -> None:
    first, _, last = ASSOCIATE_AC_VALUE.presentation_contexts
    ours = encode(replace(ASSOCIATE_AC_VALUE, presentation_contexts=(first, last)))
    theirs = pdu.A_ASSOCIATE_AC()
    theirs.decode(ours)
    assert theirs.encode() == ours


def test_we_read_its_acceptance_of_each_result() -> None:
    contexts = [build_context(CT, [EXPLICIT]) for _ in ContextResult]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
        context.result = number
    response = pdu_primitives.UserIdentityNegotiation()
    response.server_response = b"ticket"
    primitive = pdu_primitives.A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "A"
    primitive.called_ae_title = "B"
    primitive.result = 0
    primitive.result_source = 1
    primitive.presentation_context_definition_results_list = contexts
    primitive.user_information = [*negotiation()[:2], response]
    theirs = pdu.A_ASSOCIATE_AC()
    theirs.from_primitive(primitive)
    value = decode(theirs.encode())
    assert isinstance(value, AssociateAC)
    assert [context.result for context in value.presentation_contexts] == list(ContextResult)
    assert value.presentation_contexts[0] == PresentationContextAC(1, ContextResult.ACCEPTED, EXPLICIT)
    assert value.user_information.user_identity_response == UserIdentityAC(b"ticket")


def their_bytes(message: Any) -> bytes:
    """Return the one command set fragment that pynetdicom sends for a message."""
    first = next(iter(message.encode_msg(1, 0)))
    ((_, fragment),) = first.presentation_data_value_list
    assert fragment[0] == 0x03
    return bytes(fragment[1:])


def their_message(command: bytes) -> Any:
    message = dimse_messages.DIMSEMessage()
    primitive = pdu_primitives.P_DATA()
    primitive.presentation_data_value_list.append((1, b"\x03" + command))
    message.decode_msg(primitive)
    return message


@pytest.mark.parametrize("name", COMMANDS)
def test_it_reads_our_commands_and_writes_the_same(name: str) -> None:
    octets, value = COMMANDS[name]
    message = their_message(octets.data)
    assert type(message).__name__ == name.partition(" ")[0].replace("-", "_")
    assert their_bytes(message) == encode_command(value)


def store() -> tuple[Any, Any]:
    primitive = dimse_primitives.C_STORE()
    primitive.MessageID = 513
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 1
    primitive.MoveOriginatorApplicationEntityTitle = "MOVER"
    primitive.MoveOriginatorMessageID = 9
    return dimse_messages.C_STORE_RQ(), primitive


def test_we_read_its_store_request() -> None:
    message, primitive = store()
    message.primitive_to_message(primitive)
    message.command_set.CommandDataSetType = 0x0001
    assert decode_command(their_bytes(message)) == CStoreRQ(
        message_id=513,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
        priority=1,
        move_originator_ae_title="MOVER",
        move_originator_message_id=9,
    )


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, value) in COMMANDS.items()])
def test_its_elements_are_our_fields(name: str, value: Command) -> None:
    command_set = their_message(encode_command(value)).command_set
    assert command_set.CommandField == value.COMMAND_FIELD
    assert (command_set.CommandDataSetType == 0x0101) is not value.has_data_set
    for keyword, field in {
        "MessageID": "message_id",
        "MessageIDBeingRespondedTo": "message_id_being_responded_to",
        "AffectedSOPClassUID": "affected_sop_class_uid",
        "AffectedSOPInstanceUID": "affected_sop_instance_uid",
        "RequestedSOPClassUID": "requested_sop_class_uid",
        "RequestedSOPInstanceUID": "requested_sop_instance_uid",
        "Priority": "priority",
        "Status": "status",
        "ErrorComment": "error_comment",
        "ErrorID": "error_id",
        "EventTypeID": "event_type_id",
        "ActionTypeID": "action_type_id",
        "MoveOriginatorApplicationEntityTitle": "move_originator_ae_title",
        "MoveOriginatorMessageID": "move_originator_message_id",
    }.items():
        assert command_set.get(keyword) == (getattr(value, field, None) if keyword in command_set else None), name
        assert (keyword in command_set) == (getattr(value, field, None) not in (None, "")), name
