"""DIMSE (PS3.7): requests and responses on an association, for its acceptor, its requestor and storage commitment."""

from dicomport.dimse.data_sets import DataSetBuffer as DataSetBuffer
from dicomport.dimse.exchange import (
    Exchange as Exchange,
    Request as Request,
    response_to as response_to,
    sop_instance_of as sop_instance_of,
)
from dicomport.dimse.requestor import (
    NoContextError as NoContextError,
    OnEventReport as OnEventReport,
    Requestor as Requestor,
)
from dicomport.dimse.store_messages import (
    HEADER_BYTES as HEADER_BYTES,
    RequestShape as RequestShape,
    StoreMessages as StoreMessages,
)
