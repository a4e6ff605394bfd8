"""Values behave as frozen dataclasses with slots, and no source is compiled for them before one is constructed."""

import builtins
import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, ClassVar, Final

import pytest

from dicomport.values import frozen
from dicomport.wire import AssociateRQ, CStoreRQ, PresentationContextRQ, RoleSelection


@frozen
class Ours:
    """A value."""

    KIND: ClassVar = 1

    number: int
    text: str = "a"
    secret: str = field(default="", repr=False)
    uncompared: int = field(default=0, compare=False)
    unhashed: tuple[int, ...] = field(default=(), hash=False)
    fresh: list[int] = field(default_factory=list, hash=False)


@dataclass(frozen=True, slots=True)
class Theirs:
    """The same class, made by the standard library."""

    KIND: ClassVar = 1

    number: int
    text: str = "a"
    secret: str = field(default="", repr=False)
    uncompared: int = field(default=0, compare=False)
    unhashed: tuple[int, ...] = field(default=(), hash=False)
    fresh: list[int] = field(default_factory=list, hash=False)


@frozen(kw_only=True)
class Base:
    """A value with keywords only."""

    first: int
    second: int = 2


@frozen(kw_only=True)
class Derived(Base):
    """A value with the fields of another one."""

    second: int = 3
    third: int


@frozen
class Empty:
    """A value without fields."""


@frozen
class Checked:
    """A value that checks itself, with a method."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("negative")

    def __repr__(self) -> str:
        return f"<{self.number}>"


ARGUMENTS: Final[list[dict[str, Any]]] = [
    {"number": 1},
    {"number": 2},
    {"number": 1, "text": "b"},
    {"number": 1, "secret": "s"},
    {"number": 1, "uncompared": 1},
    {"number": 1, "unhashed": (1,)},
    {"number": 1, "fresh": [1]},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_value_is_shown_compared_and_hashed_as_a_dataclass_is(arguments: dict[str, Any]) -> None:
    ours, theirs = Ours(**arguments), Theirs(**arguments)

    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert [ours == Ours(**other) for other in ARGUMENTS] == [theirs == Theirs(**other) for other in ARGUMENTS]
    assert [hash(ours) == hash(Ours(**other)) for other in ARGUMENTS] == [
        hash(theirs) == hash(Theirs(**other)) for other in ARGUMENTS
    ]


def test_its_constructor_has_the_same_parameters() -> None:
    ours, theirs = inspect.signature(Ours).parameters, inspect.signature(Theirs).parameters

    assert [(one.name, one.kind, one.annotation) for one in ours.values()] == [
        (one.name, one.kind, one.annotation) for one in theirs.values()
    ]
    assert [one.default is inspect.Parameter.empty for one in ours.values()] == [
        one.default is inspect.Parameter.empty for one in theirs.values()
    ]


def test_it_has_the_same_names_beside_those() -> None:
    assert Ours.__match_args__ == Theirs.__match_args__
    assert Ours.__slots__ == Theirs.__slots__  # type: ignore[attr-defined]
    assert [one.name for one in dataclasses.fields(Ours)] == [one.name for one in dataclasses.fields(Theirs)]
    assert {*vars(Theirs)} - {*vars(Ours)} == set()


@pytest.mark.parametrize("value", [Ours(1), RoleSelection("1.2", scu=True, scp=False), Empty()])
def test_it_cannot_be_changed(value: Any) -> None:
    for name in (*(one.name for one in dataclasses.fields(value)), "unknown"):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field"):
            setattr(value, name, 1)
        with pytest.raises(FrozenInstanceError, match="cannot delete field"):
            delattr(value, name)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    "value", [Ours(1, fresh=[2]), Derived(first=1, third=3), Empty(), PresentationContextRQ(1, "1.2", ("1.3",))]
)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_it_is_copied_and_pickled(value: object, duplicate: Callable[[object], object]) -> None:
    assert duplicate(value) == value


def test_values_of_different_classes_differ() -> None:
    assert Empty() == Empty()
    assert Base(first=1) != Derived(first=1, second=2, third=3)
    assert (Empty() == ()) is False  # type: ignore[comparison-overlap]


def test_a_derived_class_has_the_fields_of_its_base_first() -> None:
    assert repr(Derived(third=1, first=2)) == "Derived(first=2, second=3, third=1)"
    with pytest.raises(TypeError, match="positional"):
        Derived(1, 2, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'third'"):
        Derived(first=1)  # type: ignore[call-arg]


def test_a_plain_subclass_has_attributes_of_its_own() -> None:
    class Plain(Base):
        pass

    plain = Plain(first=1)
    plain.more = 2  # type: ignore[attr-defined]
    del plain.more  # type: ignore[attr-defined]

    assert (plain.first, plain == Plain(first=1), plain == Base(first=1)) == (1, True, False)
    with pytest.raises(FrozenInstanceError):
        plain.first = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del plain.first


def test_each_default_of_a_factory_is_new() -> None:
    assert Ours(1).fresh is not Ours(1).fresh


def test_a_value_checks_itself_and_keeps_its_own_methods() -> None:
    assert repr(Checked(1)) == "<1>"
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)


def test_a_value_is_replaced_and_matched() -> None:
    match dataclasses.replace(Ours(1, "b"), number=2):
        case Ours(number, text):
            assert (number, text) == (2, "b")


def test_source_is_compiled_when_the_first_value_is_constructed(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    run = builtins.exec

    def counted(source: str, *scopes: Any) -> None:
        compiled.append(source)
        run(source, *scopes)

    monkeypatch.setattr(builtins, "exec", counted)

    @frozen
    class Late:
        number: int

    assert compiled == []
    assert (Late(1), Late(number=1)) == (Late(1), Late(1))
    assert compiled == ["def __init__(self, number):\n set_number(self, number)\n return"]


def test_the_values_of_the_wire_are_such() -> None:
    for kind in (AssociateRQ, CStoreRQ, PresentationContextRQ):
        assert kind.__eq__.__module__ == "dicomport.values"
