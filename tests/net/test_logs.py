"""The two formats of the log: one line for each event with any text, and no values quoted by exceptions."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, strategies as st

from dicomport.logs import JsonFormatter, TextFormatter, get_logger, reason_of

HOSTILE: Final = 'A\n2026-01-01T00:00:00Z ERROR forged key="x" \x1b[2J\x7f\x9b31m\r\u2028\u202e\udcff\\" b=c'


class Log:
    """The output of a handler with one of the formatters."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log = Log(request.param())
    logger = logging.getLogger("dicomport.test")
    logger.addHandler(log.handler)
    logger.setLevel(logging.DEBUG)
    yield log
    logger.removeHandler(log.handler)


text = pytest.mark.parametrize("log", [TextFormatter], indirect=True)
as_json = pytest.mark.parametrize("log", [JsonFormatter], indirect=True)
both = pytest.mark.parametrize("log", [TextFormatter, JsonFormatter], indirect=True)

logger = get_logger("test")


def parsed(log: Log) -> dict[str, Any]:
    [line] = log.lines
    fields: dict[str, Any] = json.loads(line)
    return fields


@as_json
def test_an_event_is_an_object_with_time_level_logger_and_fields(log: Log) -> None:
    bound = logger.bind(calling="CT1").with_peer("[2001:db8::7]:104")
    bound.warning("association_accepted", stored=3, none=None, rejected_contexts={"1.2": "no"}, few=[1, 2])
    fields = parsed(log)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("timestamp"))
    assert fields == {
        "level": "warning",
        "logger": "dicomport.test",
        "event": "association_accepted",
        "calling": "CT1",
        "address": "2001:db8::7",
        "port": 104,
        "stored": 3,
        "rejected_contexts": {"1.2": "no"},
        "few": [1, 2],
    }


@text
def test_an_event_is_a_line_with_time_level_and_fields(log: Log) -> None:
    logger.info("event", plain="a-b@c:1", spaced="a b", equal="a=b", empty="", map={"1.2": "no", "x": 2}, few=[1, 2])
    [line] = log.lines
    time, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'INFO event plain=a-b@c:1 spaced="a b" equal="a=b" map="1.2: no, x: 2" few="1; 2"'


@both
def test_no_field_starts_a_line_or_controls_a_terminal(log: Log) -> None:
    logger.warning("event", said=HOSTILE, within={HOSTILE: HOSTILE}, several=[HOSTILE])
    [line] = log.lines
    assert line.isascii()
    assert line.isprintable()


@text
def test_nothing_in_a_field_looks_like_another_field(log: Log) -> None:
    logger.warning("event", said='a" level="b', after="c")
    [line] = log.lines
    assert line.endswith(r'event said="a\" level=\"b" after=c')


@as_json
def test_an_event_object_has_all_values(log: Log) -> None:
    logger.warning("event", said=HOSTILE)
    assert parsed(log)["said"] == HOSTILE


@given(st.text())
def test_any_text_is_one_line(said: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        record = logging.makeLogRecord({"fields": {"event": "event", "said": said}})
        line = formatter.format(record)
        assert line.isascii()
        assert line.isprintable()


@both
def test_long_values_are_shortened(log: Log) -> None:
    logger.warning(
        "event",
        said="x" * 65536,
        contexts={f"{number}{'y' * 65536}": "z" * 65536 for number in range(128)},
        several=["z" * 65536] * 128,
    )
    [line] = log.lines
    assert len(line) < 64 << 10
    assert "(65536 characters)" in line
    assert "88 more" in line


def fail() -> None:
    try:
        raise KeyError("DOE^JANE")
    except KeyError as error:
        raise ValueError("could not convert 'DOE^JANE'") from error


@both
def test_an_exception_is_its_type_and_its_places(log: Log) -> None:
    try:
        fail()
    except ValueError:
        logger.exception("failed")
    [line] = log.lines
    assert "DOE" not in line
    assert "ValueError" in line
    assert re.search(r"test_logs.py:\d+ fail, .*test_logs.py:\d+ test_an_exception.*from KeyError, .*:\d+ fail", line)


@both
def test_an_exception_within_exceptions_ends(log: Log) -> None:
    def deeper(depth: int) -> None:
        try:
            if depth:
                deeper(depth - 1)
            raise ValueError("DOE^JANE")
        except ValueError:
            raise KeyError("DOE^JANE") from None if depth % 2 else ValueError()

    try:
        deeper(200)
    except KeyError:
        logger.exception("failed")
    [line] = log.lines
    assert "DOE" not in line
    assert len(line) < 10_000


@both
def test_a_record_of_another_library_is_its_first_line(log: Log) -> None:
    logging.getLogger("dicomport.test.other").error("Task %s\nfuture: <exception=ValueError('DOE^JANE')>", "\x1b[2J")
    [line] = log.lines
    assert "Task" in line
    assert "DOE" not in line
    assert line.isprintable()


def test_trouble_with_a_file_does_not_name_it() -> None:
    with pytest.raises(OSError, match="DOE") as raised:
        Path("/nowhere/DOE^JANE").read_bytes()
    assert reason_of(raised.value) == "No such file or directory"
    assert reason_of(OSError("DOE^JANE")) == "OSError"
