"""One PDU of each type, and each item and sub-item, typed from the layouts of PS3.8 9.3 and PS3.7 Annex D.3.3."""

from typing import Final

from tests.wire.golden import Golden, golden

from dicomport.wire import (
    Abort,
    AbortReason,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    AsynchronousOperationsWindow,
    ContextResult,
    PDataTF,
    Pdu,
    PresentationContextAC,
    PresentationContextRQ,
    PresentationDataValue,
    RejectReason,
    ReleaseRP,
    ReleaseRQ,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    UserInformation,
)

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"

Item = (
    PresentationContextRQ
    | PresentationContextAC
    | UserInformation
    | AsynchronousOperationsWindow
    | RoleSelection
    | SOPClassExtendedNegotiation
    | SOPClassCommonExtendedNegotiation
    | UserIdentityRQ
    | UserIdentityAC
)

ASSOCIATE_RQ: Final = golden("""
    01 00                                           # PDU type, reserved
    [00 00 01 CD]                                   # PDU length
    00 01                                           # protocol version: bit 0
    00 00                                           # reserved
    'ANY-SCP         '                              # called AE title
    'STORESCU        '                              # calling AE title
    00{32}                                          # reserved
    10 00 [00 15] '1.2.840.10008.3.1.1.1'           # application context
    20 00 [00 2E]                                   # presentation context
        01 00 00 00                                 # id, reserved
        30 00 [00 11] '1.2.840.10008.1.1'           # abstract syntax: Verification
        40 00 [00 11] '1.2.840.10008.1.2'           # transfer syntax: Implicit VR LE
    20 00 [00 4D]                                   # presentation context
        03 00 00 00                                 # id, reserved
        30 00 [00 19] '1.2.840.10008.5.1.4.1.1.2'   # abstract syntax: CT Image
        40 00 [00 13] '1.2.840.10008.1.2.1'         # transfer syntax: Explicit VR LE
        40 00 [00 11] '1.2.840.10008.1.2'           # transfer syntax: Implicit VR LE
    50 00 [00 E3]                                   # user information
        51 00 [00 04] 00 00 40 00                   # maximum length 16384
        52 00 [00 0E] '1.2.826.0.1.99'              # implementation class UID
        53 00 [00 04] 00 05 00 01                   # operations invoked 5, performed 1
        54 00 [00 1D]                               # role selection
            [00 19] '1.2.840.10008.5.1.4.1.1.2'     # SOP class UID
            01 01                                   # SCU role, SCP role
        55 00 [00 0C] 'DICOMPORT_01'                # implementation version name
        56 00 [00 1E]                               # SOP class extended negotiation
            [00 19] '1.2.840.10008.5.1.4.1.1.2'     # SOP class UID
            02 00 03                                # service class application information
        57 00 [00 4F]                               # SOP class common extended negotiation; version 0
            [00 19] '1.2.840.10008.5.1.4.1.1.2'     # SOP class UID
            [00 11] '1.2.840.10008.4.2'             # service class UID
            [00 1F]                                 # related general SOP classes
                [00 1D] '1.2.840.10008.5.1.4.1.1.88.22'
        58 00 [00 10]                               # user identity
            02 01                                   # user name and passcode; positive response requested
            [00 04] 'user'                          # primary field
            [00 06] 'secret'                        # secondary field
        F0 00 [00 03] AA BB CC                      # a sub-item of the future
    A0 00 [00 02] 01 02                             # an item of the future
""")

ASSOCIATE_RQ_VALUE: Final = AssociateRQ(
    called_ae_title="ANY-SCP",
    calling_ae_title="STORESCU",
    presentation_contexts=(
        PresentationContextRQ(1, VERIFICATION, (IMPLICIT,)),
        PresentationContextRQ(3, CT, (EXPLICIT, IMPLICIT)),
    ),
    user_information=UserInformation(
        maximum_length=16384,
        implementation_class_uid="1.2.826.0.1.99",
        implementation_version_name="DICOMPORT_01",
        operations_window=AsynchronousOperationsWindow(invoked=5, performed=1),
        roles=(RoleSelection(CT, scu=True, scp=True),),
        extended=(SOPClassExtendedNegotiation(CT, b"\2\0\3"),),
        common_extended=(
            SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ("1.2.840.10008.5.1.4.1.1.88.22",)),
        ),
        user_identity=UserIdentityRQ(2, True, b"user", b"secret"),
        unknown=(UnknownItem(0xF0, b"\xaa\xbb\xcc"),),
    ),
    unknown=(UnknownItem(0xA0, b"\1\2"),),
)

ASSOCIATE_AC: Final = golden("""
    02 00                                           # PDU type, reserved
    [00 00 01 1E]                                   # PDU length
    00 01                                           # protocol version: bit 0
    00 00                                           # reserved
    'ANY-SCP         '                              # reserved: the request's called AE title
    'STORESCU        '                              # reserved: the request's calling AE title
    00{32}                                          # reserved
    10 00 [00 15] '1.2.840.10008.3.1.1.1'           # application context
    21 00 [00 19]                                   # presentation context
        01 00 00 00                                 # id, reserved, result: acceptance, reserved
        40 00 [00 11] '1.2.840.10008.1.2'           # transfer syntax
    21 00 [00 08]                                   # presentation context
        03 00 03 00                                 # id, reserved, result: abstract syntax not supported, reserved
        40 00 [00 00]                               # transfer syntax: not significant
    21 00 [00 19]                                   # presentation context
        05 00 04 00                                 # id, reserved, result: transfer syntaxes not supported, reserved
        40 00 [00 11] '1.2.840.10008.1.2'           # transfer syntax: not significant
    50 00 [00 77]                                   # user information
        51 00 [00 04] 00 02 00 00                   # maximum length 131072
        52 00 [00 0E] '1.2.826.0.1.98'              # implementation class UID
        53 00 [00 04] 00 01 00 01                   # operations invoked 1, performed 1
        54 00 [00 1D]                               # role selection
            [00 19] '1.2.840.10008.5.1.4.1.1.2'     # SOP class UID
            00 01                                   # SCU role refused, SCP role accepted
        55 00 [00 04] 'PEER'                        # implementation version name
        56 00 [00 1E]                               # SOP class extended negotiation
            [00 19] '1.2.840.10008.5.1.4.1.1.2'     # SOP class UID
            02 00 01                                # service class application information
        59 00 [00 06]                               # user identity
            [00 04] DE AD BE EF                     # server response
""")

ASSOCIATE_AC_VALUE: Final = AssociateAC(
    called_ae_title="ANY-SCP",
    calling_ae_title="STORESCU",
    presentation_contexts=(
        PresentationContextAC(1, ContextResult.ACCEPTED, IMPLICIT),
        PresentationContextAC(3, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED),
        PresentationContextAC(5, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT),
    ),
    user_information=UserInformation(
        maximum_length=131072,
        implementation_class_uid="1.2.826.0.1.98",
        implementation_version_name="PEER",
        operations_window=AsynchronousOperationsWindow(invoked=1, performed=1),
        roles=(RoleSelection(CT, scu=False, scp=True),),
        extended=(SOPClassExtendedNegotiation(CT, b"\2\0\1"),),
        user_identity_response=UserIdentityAC(b"\xde\xad\xbe\xef"),
    ),
)

PDUS: Final[dict[str, tuple[Golden, Pdu]]] = {
    "A-ASSOCIATE-RQ": (ASSOCIATE_RQ, ASSOCIATE_RQ_VALUE),
    "A-ASSOCIATE-AC": (ASSOCIATE_AC, ASSOCIATE_AC_VALUE),
    "A-ASSOCIATE-RJ, permanent": (
        golden("""
            03 00           # PDU type, reserved
            [00 00 00 04]   # PDU length
            00              # reserved
            01              # result: rejected-permanent
            01              # source: service-user
            07              # reason: called-AE-title-not-recognized
        """),
        AssociateRJ(RejectReason.CALLED_AE_TITLE_NOT_RECOGNIZED),
    ),
    "A-ASSOCIATE-RJ, transient": (
        golden("""
            03 00           # PDU type, reserved
            [00 00 00 04]   # PDU length
            00              # reserved
            02              # result: rejected-transient
            03              # source: service-provider, presentation related function
            02              # reason: local-limit-exceeded
        """),
        AssociateRJ(RejectReason.LOCAL_LIMIT_EXCEEDED, transient=True),
    ),
    "P-DATA-TF": (
        golden("""
            04 00           # PDU type, reserved
            [00 00 00 1B]   # PDU length
            [00 00 00 04]   # PDV item length
            01              # presentation context id
            03              # message control header: command, last
            AA BB           # fragment
            [00 00 00 03]   # PDV item length
            FF              # presentation context id
            00              # message control header: data set, not last
            CC
            [00 00 00 02]   # PDV item length
            FF              # presentation context id
            02              # message control header: data set, last; an empty fragment
            [00 00 00 02]   # PDV item length
            03              # presentation context id
            01              # message control header: command, not last
        """),
        PDataTF(
            (
                PresentationDataValue(1, is_command=True, is_last=True, data=b"\xaa\xbb"),
                PresentationDataValue(255, is_command=False, is_last=False, data=b"\xcc"),
                PresentationDataValue(255, is_command=False, is_last=True, data=b""),
                PresentationDataValue(3, is_command=True, is_last=False, data=b""),
            )
        ),
    ),
    "A-RELEASE-RQ": (
        golden("""
            05 00           # PDU type, reserved
            [00 00 00 04]   # PDU length
            00 00 00 00     # reserved
        """),
        ReleaseRQ(),
    ),
    "A-RELEASE-RP": (
        golden("""
            06 00           # PDU type, reserved
            [00 00 00 04]   # PDU length
            00 00 00 00     # reserved
        """),
        ReleaseRP(),
    ),
    "A-ABORT": (
        golden("""
            07 00           # PDU type, reserved
            [00 00 00 04]   # PDU length
            00 00           # reserved
            02              # source: service-provider
            06              # reason: invalid-PDU-parameter value
        """),
        Abort(AbortReason.INVALID_PDU_PARAMETER_VALUE),
    ),
}

ITEMS: Final[dict[str, tuple[Golden, Item]]] = {
    "20H with 30H and 40H": (
        golden("""
            20 00 [00 45]
            FD 00 00 00                         # id 253, reserved
            30 00 [00 11] '1.2.840.10008.1.1'   # abstract syntax
            40 00 [00 11] '1.2.840.10008.1.2'   # transfer syntax
            40 00 [00 13] '1.2.840.10008.1.2.1' # transfer syntax
        """),
        PresentationContextRQ(253, VERIFICATION, (IMPLICIT, EXPLICIT)),
    ),
    "20H with an unknown sub-item": (
        golden("""
            20 00 [00 1F]
            01 00 00 00                         # id, reserved
            30 00 [00 11] '1.2.840.10008.1.1'   # abstract syntax
            E0 00 [00 02] CA FE                 # unknown
        """),
        PresentationContextRQ(1, VERIFICATION, (), (UnknownItem(0xE0, b"\xca\xfe"),)),
    ),
    "21H accepted": (
        golden("""
            21 00 [00 19]
            01 00 00 00                         # id, reserved, result: acceptance, reserved
            40 00 [00 11] '1.2.840.10008.1.2'   # transfer syntax
        """),
        PresentationContextAC(1, ContextResult.ACCEPTED, IMPLICIT),
    ),
    "21H user-rejection": (
        golden("""
            21 00 [00 08]
            09 00 01 00                         # id, reserved, result: user-rejection, reserved
            40 00 [00 00]                       # transfer syntax: not significant
        """),
        PresentationContextAC(9, ContextResult.USER_REJECTION),
    ),
    "21H no-reason": (
        golden("""
            21 00 [00 08]
            0B 00 02 00                         # id, reserved, result: no-reason, reserved
            40 00 [00 00]                       # transfer syntax: not significant
        """),
        PresentationContextAC(11, ContextResult.NO_REASON),
    ),
    "50H, empty": (golden("50 00 [00 00]"), UserInformation()),
    "51H": (golden("50 00 [00 08]  51 00 [00 04] FF FF FF FE"), UserInformation(maximum_length=0xFFFFFFFE)),
    "51H, no limit": (golden("50 00 [00 08]  51 00 [00 04] 00 00 00 00"), UserInformation(maximum_length=0)),
    "52H": (
        golden("50 00 [00 0D]  52 00 [00 09] '1.2.3.4.5'"),
        UserInformation(implementation_class_uid="1.2.3.4.5"),
    ),
    "53H": (
        golden("53 00 [00 04]  FF FF  00 00  # invoked, performed"),
        AsynchronousOperationsWindow(invoked=65535, performed=0),
    ),
    "54H": (
        golden("""
            54 00 [00 15]
            [00 11] '1.2.840.10008.1.1'         # SOP class UID
            01 00                               # SCU role, SCP role
        """),
        RoleSelection(VERIFICATION, scu=True, scp=False),
    ),
    "55H": (
        golden("50 00 [00 14]  55 00 [00 10] 'SIXTEEN_CHARS_16'"),
        UserInformation(implementation_version_name="SIXTEEN_CHARS_16"),
    ),
    "55H, empty": (golden("50 00 [00 04]  55 00 [00 00]"), UserInformation(implementation_version_name="")),
    "56H": (
        golden("""
            56 00 [00 19]
            [00 11] '1.2.840.10008.1.1'         # SOP class UID
            00 01 02 03 04 05                   # service class application information
        """),
        SOPClassExtendedNegotiation(VERIFICATION, b"\0\1\2\3\4\5"),
    ),
    "56H without information": (
        golden("56 00 [00 13]  [00 11] '1.2.840.10008.1.1'"),
        SOPClassExtendedNegotiation(VERIFICATION, b""),
    ),
    "57H": (
        golden("""
            57 00 [00 37]                       # type, sub-item version, length
            [00 11] '1.2.840.10008.1.1'         # SOP class UID
            [00 11] '1.2.840.10008.4.2'         # service class UID
            [00 0F]                             # related general SOP classes
                [00 05] '1.2.3'
                [00 06] '1.2.30'
        """),
        SOPClassCommonExtendedNegotiation(VERIFICATION, "1.2.840.10008.4.2", ("1.2.3", "1.2.30")),
    ),
    "57H without related classes": (
        golden("57 00 [00 10]  [00 05] '1.2.3'  [00 05] '1.2.4'  [00 00]"),
        SOPClassCommonExtendedNegotiation("1.2.3", "1.2.4"),
    ),
    "58H type 1": (
        golden("58 00 [00 0A]  01 00  [00 04] 'user'  [00 00]"),
        UserIdentityRQ(1, False, b"user"),
    ),
    "58H type 2": (
        golden("58 00 [00 0E]  02 01  [00 04] 'user'  [00 04] 'pass'"),
        UserIdentityRQ(2, True, b"user", b"pass"),
    ),
    "58H type 3": (
        golden("58 00 [00 08]  03 01  [00 02] 60 82  [00 00]  # Kerberos service ticket"),
        UserIdentityRQ(3, True, b"\x60\x82"),
    ),
    "58H type 4": (
        golden("58 00 [00 0A]  04 01  [00 04] '<as>'  [00 00]  # SAML assertion"),
        UserIdentityRQ(4, True, b"<as>"),
    ),
    "58H type 5": (
        golden("58 00 [00 0B]  05 00  [00 05] 'a.b.c'  [00 00]  # JSON Web Token"),
        UserIdentityRQ(5, False, b"a.b.c"),
    ),
    "59H": (golden("59 00 [00 04]  [00 02] 12 34"), UserIdentityAC(b"\x12\x34")),
    "59H, empty": (golden("59 00 [00 02]  [00 00]"), UserIdentityAC()),
    "unknown sub-items": (
        golden("""
            50 00 [00 0F]
            5A 00 [00 00]                       # after the last known one
            50 00 [00 03] 01 02 03              # an item's type has no place here
            00 00 [00 00]
        """),
        UserInformation(unknown=(UnknownItem(0x5A, b""), UnknownItem(0x50, b"\1\2\3"), UnknownItem(0, b""))),
    ),
}
