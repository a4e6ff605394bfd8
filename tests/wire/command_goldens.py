"""One command set of each kind, typed from the tables of PS3.7 9.3 and 10.3: Implicit VR Little Endian, group 0000."""

from typing import Final

from tests.wire.golden import Golden, golden

from dicomport.wire import (
    CCancelRQ,
    CEchoRQ,
    CEchoRSP,
    Command,
    CStoreRQ,
    CStoreRSP,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    Priority,
)

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION: Final = "1.2.840.10008.1.1"
COMMITMENT: Final = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"

COMMANDS: Final[dict[str, tuple[Golden, Command]]] = {
    "C-STORE-RQ": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [78 00 00 00]                         # group length
            00 00 02 00 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00        # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 01 00                                 # Command Field
            00 00 10 01 [02 00 00 00] 07 00                                 # Message ID
            00 00 00 07 [02 00 00 00] 02 00                                 # Priority: low
            00 00 00 08 [02 00 00 00] 00 00                                 # Command Data Set Type
            00 00 00 10 [0C 00 00 00] '1.2.3.4.5.67'                        # Affected SOP Instance UID
            00 00 30 10 [08 00 00 00] 'MOVE-AE '                            # Move Originator AE Title
            00 00 31 10 [02 00 00 00] 2A 00                                 # Move Originator Message ID
            """,
            "little",
        ),
        CStoreRQ(
            message_id=7,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3.4.5.67",
            priority=Priority.LOW,
            move_originator_ae_title="MOVE-AE",
            move_originator_message_id=42,
        ),
    ),
    "C-STORE-RQ without what is optional": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [5A 00 00 00]                         # group length
            00 00 02 00 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00        # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 01 00                                 # Command Field
            00 00 10 01 [02 00 00 00] FF FF                                 # Message ID
            00 00 00 07 [02 00 00 00] 00 00                                 # Priority: medium
            00 00 00 08 [02 00 00 00] 00 00                                 # Command Data Set Type
            00 00 00 10 [08 00 00 00] '1.2.3.4' 00                          # Affected SOP Instance UID
            """,
            "little",
        ),
        CStoreRQ(message_id=65535, affected_sop_class_uid=CT, affected_sop_instance_uid="1.2.3.4"),
    ),
    "C-STORE-RSP": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [5A 00 00 00]                         # group length
            00 00 02 00 [1A 00 00 00] '1.2.840.10008.5.1.4.1.1.2' 00        # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 01 80                                 # Command Field
            00 00 20 01 [02 00 00 00] 07 00                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            00 00 00 09 [02 00 00 00] 00 00                                 # Status: success
            00 00 00 10 [08 00 00 00] '1.2.3.4' 00                          # Affected SOP Instance UID
            """,
            "little",
        ),
        CStoreRSP(
            message_id_being_responded_to=7,
            status=0x0000,
            affected_sop_class_uid=CT,
            affected_sop_instance_uid="1.2.3.4",
        ),
    ),
    "C-STORE-RSP with a failure": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [54 00 00 00]                         # group length
            00 00 00 01 [02 00 00 00] 01 80                                 # Command Field
            00 00 20 01 [02 00 00 00] 07 00                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            00 00 00 09 [02 00 00 00] 00 A9                                 # Status
            00 00 01 09 [08 00 00 00] 10 00 20 00 08 00 18 00               # Offending Element: two tags
            00 00 02 09 [0A 00 00 00] 'wrong IDs '                          # Error Comment
            00 00 03 09 [02 00 00 00] 00 00                                 # Error ID
            """,
            "little",
        ),
        CStoreRSP(
            message_id_being_responded_to=7,
            status=0xA900,
            offending_element=(0x00100020, 0x00080018),
            error_comment="wrong IDs",
            error_id=0,
        ),
    ),
    "C-ECHO-RQ": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [38 00 00 00]                         # group length
            00 00 02 00 [12 00 00 00] '1.2.840.10008.1.1' 00                # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 30 00                                 # Command Field
            00 00 10 01 [02 00 00 00] 01 00                                 # Message ID
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            """,
            "little",
        ),
        CEchoRQ(message_id=1, affected_sop_class_uid=VERIFICATION),
    ),
    "C-ECHO-RSP": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [42 00 00 00]                         # group length
            00 00 02 00 [12 00 00 00] '1.2.840.10008.1.1' 00                # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 30 80                                 # Command Field
            00 00 20 01 [02 00 00 00] 01 00                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            00 00 00 09 [02 00 00 00] 00 00                                 # Status: success
            """,
            "little",
        ),
        CEchoRSP(message_id_being_responded_to=1, status=0, affected_sop_class_uid=VERIFICATION),
    ),
    "N-ACTION-RQ": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [62 00 00 00]                         # group length
            00 00 03 00 [14 00 00 00] '1.2.840.10008.1.20.1'                # Requested SOP Class UID
            00 00 00 01 [02 00 00 00] 30 01                                 # Command Field
            00 00 10 01 [02 00 00 00] 02 01                                 # Message ID
            00 00 00 08 [02 00 00 00] 00 00                                 # Command Data Set Type
            00 00 01 10 [16 00 00 00] '1.2.840.10008.1.20.1.1'              # Requested SOP Instance UID
            00 00 08 10 [02 00 00 00] 01 00                                 # Action Type ID
            """,
            "little",
        ),
        NActionRQ(
            has_data_set=True,
            message_id=0x0102,
            requested_sop_class_uid=COMMITMENT,
            requested_sop_instance_uid=COMMITMENT_INSTANCE,
            action_type_id=1,
        ),
    ),
    "N-ACTION-RSP": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [6C 00 00 00]                         # group length
            00 00 02 00 [14 00 00 00] '1.2.840.10008.1.20.1'                # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 30 81                                 # Command Field
            00 00 20 01 [02 00 00 00] 02 01                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            00 00 00 09 [02 00 00 00] 00 00                                 # Status: success
            00 00 00 10 [16 00 00 00] '1.2.840.10008.1.20.1.1'              # Affected SOP Instance UID
            00 00 08 10 [02 00 00 00] 01 00                                 # Action Type ID
            """,
            "little",
        ),
        NActionRSP(
            message_id_being_responded_to=0x0102,
            status=0,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            action_type_id=1,
        ),
    ),
    "N-EVENT-REPORT-RQ": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [62 00 00 00]                         # group length
            00 00 02 00 [14 00 00 00] '1.2.840.10008.1.20.1'                # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 00 01                                 # Command Field
            00 00 10 01 [02 00 00 00] 05 00                                 # Message ID
            00 00 00 08 [02 00 00 00] 00 00                                 # Command Data Set Type
            00 00 00 10 [16 00 00 00] '1.2.840.10008.1.20.1.1'              # Affected SOP Instance UID
            00 00 02 10 [02 00 00 00] 02 00                                 # Event Type ID
            """,
            "little",
        ),
        NEventReportRQ(
            has_data_set=True,
            message_id=5,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            event_type_id=2,
        ),
    ),
    "N-EVENT-REPORT-RSP": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [6C 00 00 00]                         # group length
            00 00 02 00 [14 00 00 00] '1.2.840.10008.1.20.1'                # Affected SOP Class UID
            00 00 00 01 [02 00 00 00] 00 81                                 # Command Field
            00 00 20 01 [02 00 00 00] 05 00                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            00 00 00 09 [02 00 00 00] 13 01                                 # Status: no such event type
            00 00 00 10 [16 00 00 00] '1.2.840.10008.1.20.1.1'              # Affected SOP Instance UID
            00 00 02 10 [02 00 00 00] 02 00                                 # Event Type ID
            """,
            "little",
        ),
        NEventReportRSP(
            message_id_being_responded_to=5,
            status=0x0113,
            affected_sop_class_uid=COMMITMENT,
            affected_sop_instance_uid=COMMITMENT_INSTANCE,
            event_type_id=2,
        ),
    ),
    "C-CANCEL-RQ": (
        golden(
            """
            00 00 00 00 [04 00 00 00] [1E 00 00 00]                         # group length
            00 00 00 01 [02 00 00 00] FF 0F                                 # Command Field
            00 00 20 01 [02 00 00 00] 09 00                                 # Message ID Being Responded To
            00 00 00 08 [02 00 00 00] 01 01                                 # Command Data Set Type: none
            """,
            "little",
        ),
        CCancelRQ(message_id_being_responded_to=9),
    ),
}
