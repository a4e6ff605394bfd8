"""`storescu --dry-run`: print the plan without a connection."""

from __future__ import annotations

from collections.abc import Iterable

from dicomport.cli.console import print_message
from dicomport.cli.options.common import ExitCode
from dicomport.cli.sender.summary import print_deviations
from dicomport.cli.text import amount, count, print_json, print_table
from dicomport.scu import Instance, InstanceResult, Plan
from dicomport.standard import describe


def dry_run(found: Iterable[Instance | InstanceResult], plan: Plan, *, as_json: bool) -> ExitCode:
    """Print the planned associations, their contexts and the other files; fail if an instance cannot be sent."""
    refused: list[InstanceResult] = []
    deviating: list[Instance] = []
    for one in found:
        if isinstance(one, InstanceResult):
            refused.append(one)
        else:
            plan.add(one)
            if one.deviations:
                deviating.append(one)
    if as_json:
        _print_json(plan, refused)
    else:
        _print(plan, refused)
        print_deviations(deviating)
    failed = any(not result.skipped for result in refused)
    return ExitCode.FAILED if failed or not plan.associations else ExitCode.OK


def _print(plan: Plan, refused: list[InstanceResult]) -> None:
    rows = [
        (
            str(number),
            describe(sop_class),
            describe(syntax),
            str(load.instances) if load.instances else "offered",
            amount(load.size) if load.instances else "",
        )
        for number, planned in enumerate(plan.associations, 1)
        for (sop_class, syntax), load in planned.contexts.items()
    ]
    print_table(("Association", "SOP Class", "Transfer syntax", ">Instances", ">Size"), rows)
    loads = [load for planned in plan.associations for load in planned.contexts.values()]
    print_message(
        f"{count(sum(load.instances for load in loads), 'instance')}, {amount(sum(load.size for load in loads))}, "
        f"in at least {count(len(plan.associations), 'association')}; nothing was sent"
    )
    for result in refused:
        print_message(f"{'skipped' if result.skipped else 'cannot be sent'}: {result.name}: {result.reason}")


def _print_json(plan: Plan, refused: list[InstanceResult]) -> None:
    for number, planned in enumerate(plan.associations, 1):
        for (sop_class, syntax), load in planned.contexts.items():
            facts = {
                "association": number,
                "sop_class_uid": sop_class,
                "transfer_syntax_uid": syntax,
                "instances": load.instances,
                "size": load.size,
            }
            print_json(facts)
    for result in refused:
        print_json({"path": result.name, "reason": result.reason, "skipped": result.skipped})
