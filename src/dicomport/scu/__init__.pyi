# The names of this room, each with its home: the one list of them, for type checkers and for __init__.py.

from dicomport.scu.association import ClientAssociation as ClientAssociation
from dicomport.scu.association import associate as associate
from dicomport.scu.contexts import ContextLike as ContextLike
from dicomport.scu.contexts import NegotiationItems as NegotiationItems
from dicomport.scu.contexts import association_request as association_request
from dicomport.scu.inputs.background import Sources as Sources
from dicomport.scu.inputs.background import feed as feed
from dicomport.scu.inputs.discovery import Source as Source
from dicomport.scu.inputs.discovery import find as find
from dicomport.scu.inputs.instance import Instance as Instance
from dicomport.scu.inputs.instance import NotSendableError as NotSendableError
from dicomport.scu.inputs.instance import instance_from_dataset as instance_from_dataset
from dicomport.scu.inputs.instance import instance_from_path as instance_from_path
from dicomport.scu.requestor import StorageRequestor as StorageRequestor
from dicomport.scu.results import InstanceResult as InstanceResult
from dicomport.scu.results import StoreResponse as StoreResponse
from dicomport.scu.sending.delivery_queue import OnResult as OnResult
from dicomport.scu.sending.plan import AssociationPlan as AssociationPlan
from dicomport.scu.sending.plan import Plan as Plan
from dicomport.scu.sending.report import SendReport as SendReport
from dicomport.scu.sending.retry import RetryPolicy as RetryPolicy
from dicomport.scu.sending.send import Sending as Sending
from dicomport.scu.sending.send import send as send
from dicomport.scu.transform.pipeline import Transform as Transform
