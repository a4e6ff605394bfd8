"""Asking: associations as their requestor, and sending many instances over them.

Explaining one is in `explaining` and `steps`, the journal in `journal`: a plain sender has no time to import them.
"""

from dicomport.scu import blocking
from dicomport.scu.client import ClientAssociation, associate
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.desk import OnResult
from dicomport.scu.feed import Sendables, feed
from dicomport.scu.inputs import Sendable, find
from dicomport.scu.instances import Instance, NotSendableError, instance_from_dataset, instance_from_path
from dicomport.scu.plan import Plan, PlannedAssociation
from dicomport.scu.preparation import Preparation
from dicomport.scu.report import InstanceResult, SendReport
from dicomport.scu.requestor import NoContextError, Requestor, StoreResponse
from dicomport.scu.retry import RetryPolicy
from dicomport.scu.send import Sending, send

__all__ = [
    "ClientAssociation",
    "ContextLike",
    "Instance",
    "InstanceResult",
    "NegotiationItems",
    "NoContextError",
    "NotSendableError",
    "OnResult",
    "Plan",
    "PlannedAssociation",
    "Preparation",
    "Requestor",
    "RetryPolicy",
    "SendReport",
    "Sendable",
    "Sendables",
    "Sending",
    "StoreResponse",
    "associate",
    "association_request",
    "blocking",
    "feed",
    "find",
    "instance_from_dataset",
    "instance_from_path",
    "send",
]
