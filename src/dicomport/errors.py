"""The base of all exceptions that dicomport raises on purpose. Each is defined where it is raised."""

from __future__ import annotations


class DicomportError(Exception):
    """Base of all exceptions that dicomport raises on purpose.

    Wrong arguments raise `ValueError` or `TypeError`, and the operating system's errors stay `OSError`.

        DicomportError
          AssociationError              the association could not be established, or has ended
            ConnectError                  no connection: name, network or TLS; also a ConnectionError
            RejectedError                 the peer rejected the association
            AbortedError                  the association was aborted
            ConnectionLostError           the connection was closed or lost; also a ConnectionError
            TimerExpiredError             the peer did not act in time; also a TimeoutError
          NoContextError                no presentation context for the instance; the association stays open
          NotSendableError              the instance cannot be sent
            NotAnInstanceError            it is another file than an instance
          JournalError                  the file cannot be used as a journal
          UndecodableDataSetError       the received data set cannot be decoded
          HookError                     raised by a callback to report its failure
          IndexDatabaseError            the archive's index cannot be used
            BusyIndexError                another process has locked it
            DamagedIndexError             it is damaged or missing
            SchemaError                   another version of dicomport created it
              LaterSchemaError              a later version did
          UnreadableFolderError         the index was not recreated: a folder cannot be read
          ExportError                   a file of the study cannot be exported
          ProtocolError                 the peer's bytes break the protocol
            LimitExceededError            they exceed one of our limits
            CommandError                  a malformed DIMSE request that can be answered
          StateError                    the association's state does not allow the call
          EncodeError                   the value cannot be encoded; also a ValueError
          FileMetaError                 no readable File Meta Information; also a ValueError
            NotPart10Error                not a DICOM file
              EmptyFileError                an empty file
            TruncatedFileMetaError        it ends too early
          DataSetError                  not a data set in this transfer syntax; also a ValueError
            DataSetTooLongError           it exceeds the limit when inflated
          CommitmentDataSetError        a malformed storage commitment data set; also a ValueError
          NotTLSError                   the peer does not speak TLS; also an OSError
          SettingError                  a setting of the configuration is invalid
          StoppedError                  storage commitment reports are not delivered any more
          ScriptError                   a scripted peer's expectation failed; also an AssertionError
            GoneError                     the other side closed the connection
    """
