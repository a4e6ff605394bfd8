"""DIMSE (PS3.7): requests and responses on an association, for its acceptor, its requestor and storage commitment."""

from dicomport.dimse.data_sets import DataSetBuffer
from dicomport.dimse.exchange import Exchange, Request, response_to, sop_instance_of
from dicomport.dimse.requestor import NoContextError, OnEventReport, Requestor

__all__ = [
    "DataSetBuffer",
    "Exchange",
    "NoContextError",
    "OnEventReport",
    "Request",
    "Requestor",
    "response_to",
    "sop_instance_of",
]
