"""The sender's discovered inputs, divided into sendable and unsendable ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from dicomport.scu import Instance, InstanceResult, Source, find


@dataclass(frozen=True)
class Scan:
    instances: tuple[Instance, ...]
    refused: tuple[InstanceResult, ...]

    @property
    def size(self) -> int:
        return sum(instance.size for instance in self.instances)


def scan(what: Iterable[Source]) -> Scan:
    found = list(find(what))
    return Scan(
        tuple(one for one in found if isinstance(one, Instance)),
        tuple(one for one in found if isinstance(one, InstanceResult)),
    )
