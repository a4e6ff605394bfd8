"""Asking: associations as their requestor, and sending many instances over them.

Explaining one is in `explaining` and `steps`, the journal in `journal`: a plain sender has no time to import them.
"""

from dicomport.scu import blocking
from dicomport.scu.association import ClientAssociation, associate
from dicomport.scu.contexts import ContextLike, NegotiationItems, association_request
from dicomport.scu.inputs.background import Sources, feed
from dicomport.scu.inputs.discovery import Source, find
from dicomport.scu.inputs.instance import Instance, NotSendableError, instance_from_dataset, instance_from_path
from dicomport.scu.requestor import NoContextError, Requestor
from dicomport.scu.results import InstanceResult, StoreResponse
from dicomport.scu.sending.delivery_queue import OnResult
from dicomport.scu.sending.plan import AssociationPlan, Plan
from dicomport.scu.sending.report import SendReport
from dicomport.scu.sending.retry import RetryPolicy
from dicomport.scu.sending.send import Sending, send
from dicomport.scu.transform.pipeline import Transform

__all__ = [
    "AssociationPlan",
    "ClientAssociation",
    "ContextLike",
    "Instance",
    "InstanceResult",
    "NegotiationItems",
    "NoContextError",
    "NotSendableError",
    "OnResult",
    "Plan",
    "Requestor",
    "RetryPolicy",
    "SendReport",
    "Sending",
    "Source",
    "Sources",
    "StoreResponse",
    "Transform",
    "associate",
    "association_request",
    "blocking",
    "feed",
    "find",
    "instance_from_dataset",
    "instance_from_path",
    "send",
]
