"""A line of Envoy's access log says to whom its request was assigned, and how it failed."""

import pytest

from services.proxy.counting.log_line import LogLine, is_sampled, parse, split
from shared.models import Track
from shared.proxy_models import RequestError
from tests.support.proxy.access_lines import NO_ANSWER, line


def parsed(*changes: dict[str, str], **fields: str) -> LogLine:
    given = split(line(*changes, **fields))
    assert given is not None
    return parse(given)


RESET = {"status": "503", "flags": "UC", "details": "upstream_reset_before_response_started{connection_termination}"}
CUT = {"flags": "UPE", "details": "upstream_reset_after_response_started{protocol_error}"}
LEFT = {**NO_ANSWER, "flags": "DC", "details": "downstream_remote_disconnect"}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, None),
        ({"status": "404"}, None),
        ({"status": "500"}, RequestError.STATUS),
        (RESET, RequestError.RESET),
        ({**NO_ANSWER, "status": "503", "flags": "UH", "details": "no_healthy_upstream"}, RequestError.RESET),
        (CUT, RequestError.CUT),
        ({**CUT, "status": "500"}, RequestError.STATUS),
        ({**CUT, "status": "101", "upgrade": "websocket"}, None),
        (LEFT, RequestError.GAVE_UP),
        ({**LEFT, "flags": "DC,UC"}, RequestError.GAVE_UP),
        ({**LEFT, "received_ms": "-"}, None),
        ({**NO_ANSWER, "flags": "DPE", "details": "http1.codec_error"}, None),
        ({"flags": "DC", "details": "downstream_remote_disconnect"}, None),
        ({"grpc_status": "0", "content_type": "application/grpc"}, None),
        ({"grpc_status": "5", "content_type": "application/grpc"}, None),
        *(({"grpc_status": number}, RequestError.GRPC) for number in ("2", "4", "12", "13", "14", "15")),
    ],
)
def test_an_error_is_a_fault_of_the_server(fields: dict[str, str], error: RequestError | None) -> None:
    assert parsed(fields).error(rollout_is_open=True) is error


def test_a_request_that_production_answered_for_the_canary_failed_only_while_the_rollout_is_open() -> None:
    answered = parsed(cluster="notes/split")
    assert (answered.assigned, answered.answered) == (Track.CANARY, Track.STABLE)
    assert answered.error(rollout_is_open=True) is RequestError.FAILED_OVER
    assert answered.error(rollout_is_open=False) is None


@pytest.mark.parametrize(
    ("cluster", "track"),
    [
        ("notes/split", Track.CANARY),
        ("notes/canary", Track.CANARY),
        ("notes/stable", Track.STABLE),
        ("-", Track.STABLE),
    ],
)
def test_the_cluster_of_the_route_tells_the_assigned_track(cluster: str, track: Track) -> None:
    assert parsed(cluster=cluster).assigned is track


def test_a_visitor_is_the_id_in_the_cookie_which_was_the_id_of_the_first_request() -> None:
    first = parsed()
    assert parsed(visitor=f"notes-r2.{first.visitor}", request_id="another").visitor == first.visitor


def test_a_request_waits_since_it_has_arrived() -> None:
    assert parsed(duration_ms="9000", received_ms="7000").waited_ms == 2000


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "101"},
        {"upgrade": "websocket"},
        {"content_type": "Text/Event-Stream; charset=utf-8"},
        {"content_type": "multipart/x-mixed-replace;boundary=x"},
        {"content_type": "application/grpc+proto"},
    ],
)
def test_a_stream_is_told_by_its_status_upgrade_or_type(fields: dict[str, str]) -> None:
    assert parsed(fields).is_stream
    assert not parsed().is_stream


def test_an_answer_whose_type_holds_a_tab_is_read_all_the_same() -> None:
    assert parsed(content_type="text/html;\tcharset=x", status="500").error(rollout_is_open=True) is RequestError.STATUS


@pytest.mark.parametrize("text", ["", "\t", "DownstreamEnd", line()[:40], line(type="UpstreamEnd"), line(type="")])
def test_a_line_of_another_kind_has_no_fields(text: str) -> None:
    assert split(text) is None


@pytest.mark.parametrize(
    "fields", [{"status": "-"}, {"status": "2.0"}, {"duration_ms": ""}, {"start_s": "nan"}, {"start_s": "1e300"}]
)
def test_a_field_that_is_no_number_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(fields)


def test_a_visitor_is_in_a_sample_with_all_requests_or_none() -> None:
    ids = [f"5f0e3a11-0000-4000-8000-0000000000{number:02x}" for number in range(256)]
    for one_in in (1, 2, 4, 8, 16):
        first = {each for each in ids if is_sampled(line(request_id=each).split("\t"), one_in)}
        later = {each for each in ids if is_sampled(line(visitor=f"notes-r2.{each}").split("\t"), one_in)}
        assert first == later
        assert len(first) == 256 // one_in
