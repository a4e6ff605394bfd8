"""Asking: associations as their requestor, and sending many instances over them."""

from dicomport.scu import blocking
from dicomport.scu.client import ClientAssociation, associate
from dicomport.scu.contexts import ContextLike
from dicomport.scu.instances import Instance, NotSendableError, instance_from_dataset, instance_from_path
from dicomport.scu.plan import PlannedAssociation, Scan, plan_associations, scan
from dicomport.scu.report import InstanceResult, SendReport
from dicomport.scu.requestor import NoContextError, StoreResponse
from dicomport.scu.send import OnResult, Sender, send

__all__ = [
    "ClientAssociation",
    "ContextLike",
    "Instance",
    "InstanceResult",
    "NoContextError",
    "NotSendableError",
    "OnResult",
    "PlannedAssociation",
    "Scan",
    "SendReport",
    "Sender",
    "StoreResponse",
    "associate",
    "blocking",
    "instance_from_dataset",
    "instance_from_path",
    "plan_associations",
    "scan",
    "send",
]
