# The names of this room, each with its home: the one list of them, for type checkers and for __init__.py.

from dicomport.scu.association import ClientAssociation as ClientAssociation, associate as associate
from dicomport.scu.contexts import (
    ContextLike as ContextLike,
    NegotiationItems as NegotiationItems,
    association_request as association_request,
)
from dicomport.scu.inputs.background import Sources as Sources, feed as feed
from dicomport.scu.inputs.discovery import Source as Source, find as find
from dicomport.scu.inputs.instance import (
    Instance as Instance,
    NotSendableError as NotSendableError,
    instance_from_dataset as instance_from_dataset,
    instance_from_path as instance_from_path,
)
from dicomport.scu.requestor import StorageRequestor as StorageRequestor
from dicomport.scu.results import InstanceResult as InstanceResult, StoreResponse as StoreResponse
from dicomport.scu.sending.delivery_queue import OnResult as OnResult
from dicomport.scu.sending.plan import AssociationPlan as AssociationPlan, Plan as Plan
from dicomport.scu.sending.report import SendReport as SendReport
from dicomport.scu.sending.retry import RetryPolicy as RetryPolicy
from dicomport.scu.sending.send import Sending as Sending, send as send
from dicomport.scu.transform.pipeline import Transform as Transform
