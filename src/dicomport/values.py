"""Classes of values: dataclasses with slots that take little time to import.

`dataclasses.dataclass` generates and compiles seven methods for each class, which took a third of the time until a
command starts. `frozen` and `slotted` set methods that are written here. Only the constructor is generated, since it
must be fast, and not before it is used: a process uses few of the classes that it imports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, dataclass_transform, overload

Class = TypeVar("Class", bound=type[Any])


@overload
def frozen(cls: Class, /) -> Class: ...
@overload
def frozen(*, kw_only: bool = False) -> Callable[[Class], Class]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Return the class as a dataclass that is frozen and has slots, as of `dataclass(frozen=True, slots=True)`.

    `dataclasses.fields`, `replace` and `asdict`, copying, pickling and `match` work as with any dataclass. Each field
    is a parameter of the constructor.
    """
    return _made(cls, kw_only=kw_only, methods=_frozen_methods)


@overload
def slotted(cls: Class, /) -> Class: ...
@overload
def slotted(*, kw_only: bool = False) -> Callable[[Class], Class]: ...
@dataclass_transform(field_specifiers=(dataclasses.field,))
def slotted(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Return the class as a dataclass with slots whose fields can be set, as of `dataclass(slots=True)`."""
    return _made(cls, kw_only=kw_only, methods=_methods)


Methods: TypeAlias = dict[str, Any]


def _made(cls: type[Any] | None, *, kw_only: bool, methods: Callable[[type[Any]], Methods]) -> Any:
    if cls is None:
        return lambda cls: _made(cls, kw_only=kw_only, methods=methods)
    made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    for name, method in methods(made).items():
        if name not in vars(cls):
            setattr(made, name, method)
    made.__init__ = _Constructor(made)
    return made


def _methods(made: type[Any]) -> Methods:
    fields = dataclasses.fields(made)
    shown = tuple(field.name for field in fields if field.repr)
    compared = _getter([field.name for field in fields if field.compare])

    def __repr__(self: object) -> str:  # noqa: N807  # it becomes a method
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self: object, other: object) -> bool:  # noqa: N807
        return compared(self) == compared(other) if type(other) is type(self) else NotImplemented

    return {"__repr__": __repr__, "__eq__": __eq__, "__hash__": None}


def _frozen_methods(made: type[Any]) -> Methods:
    fields = dataclasses.fields(made)
    names = frozenset(field.name for field in fields)
    hashed = _getter([field.name for field in fields if (field.compare if field.hash is None else field.hash)])

    def __hash__(self: object) -> int:  # noqa: N807
        return hash(hashed(self))

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(made, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is made or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(made, self).__delattr__(name)

    changed = (__hash__, __setattr__, __delattr__, __getstate__, __setstate__)
    return _methods(made) | {method.__name__: method for method in changed}


def _getter(names: list[str]) -> Callable[[object], object]:
    return attrgetter(*names) if names else lambda _: ()


def __getstate__(self: Any) -> list[object]:  # noqa: N807
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def __setstate__(self: Any, state: list[object]) -> None:  # noqa: N807
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


class _Constructor:
    """The `__init__` of a class until it is used: then the generated function takes its place."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        init = _generate(self._cls)
        self._cls.__init__ = init
        return init.__get__(instance, owner)


_MISSING: Final = dataclasses.MISSING


def _generate(cls: type[Any]) -> Any:
    """Compile the constructor. It sets the slots themselves, since the class refuses assignments."""
    names: dict[str, object] = {}
    positional, keywords, body = ["self"], ["*"], []
    for field in dataclasses.fields(cls):
        name = value = field.name
        parameter = name
        names[f"set_{name}"] = getattr(cls, name).__set__
        if field.default_factory is not _MISSING:
            names[f"new_{name}"], names["MISSING"] = field.default_factory, _MISSING
            parameter, value = f"{name}=MISSING", f"new_{name}() if {name} is MISSING else {name}"
        elif field.default is not _MISSING:
            names[f"default_{name}"] = field.default
            parameter = f"{name}=default_{name}"
        (keywords if field.kw_only else positional).append(parameter)
        body.append(f" set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = ", ".join(positional + keywords * (len(keywords) > 1))
    exec("\n".join((f"def __init__({parameters}):", *body, " return")), names)  # noqa: S102  # names of fields only
    init: Any = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {field.name: field.type for field in dataclasses.fields(cls)} | {"return": None}
    return init
