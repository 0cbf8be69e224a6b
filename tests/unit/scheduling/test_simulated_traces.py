"""What ``fleet simulate`` reads: a CSV, and for each way to get it wrong one sentence."""

from __future__ import annotations

import pytest

from fleet_api.scheduling.simulation.trace import Arrival, BadTrace, read_trace

HEAD = "arrival_s,model,seconds,priority"


def read(*rows: str, head: str = HEAD) -> list[Arrival]:
    return read_trace([line + "\n" for line in (head, *rows)])


def test_jobs_are_read_in_the_order_of_their_arrival() -> None:
    assert read("5,b,2,-3", "1.5,a,0.5,", "5,c,1,10") == [Arrival(1.5, "a", 0.5), Arrival(5, "b", 2, -3), Arrival(5, "c", 1, 10)]


def test_priority_may_be_left_out_and_columns_come_in_any_order() -> None:
    assert read("8,1,sdxl", head="seconds,arrival_s,model") == [Arrival(1, "sdxl", 8)]
    assert read(" 1 , sdxl , 8 ", head=" arrival_s, model ,seconds") == [Arrival(1, "sdxl", 8)]
    assert read('1,"a, b",8,0') == [Arrival(1, "a, b", 8)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x,a,1,0", "Line 3 of the trace: arrival_s must be a number, not 'x'."),
        (",a,1,0", "Line 3 of the trace: arrival_s must be a number, not ''."),
        ("-1,a,1,0", "Line 3 of the trace: arrival_s must be 0 or more, not -1."),
        ("inf,a,1,0", "Line 3 of the trace: arrival_s must be finite, not inf."),
        ("nan,a,1,0", "Line 3 of the trace: arrival_s must be finite, not nan."),
        ("1, ,1,0", "Line 3 of the trace names no model."),
        ("1,a,eight,0", "Line 3 of the trace: seconds must be a number, not 'eight'."),
        ("1,a,0,0", "Line 3 of the trace: seconds must be more than 0, not 0."),
        ("1,a,-2,0", "Line 3 of the trace: seconds must be more than 0, not -2."),
        ("1,a,1e400,0", "Line 3 of the trace: seconds must be finite, not 1e400."),
        ("1,a,1,high", "Line 3 of the trace: priority must be a whole number from -1000000 to 1000000, not 'high'."),
        ("1,a,1,1.5", "Line 3 of the trace: priority must be a whole number from -1000000 to 1000000, not '1.5'."),
        ("1,a,1,1000001", "Line 3 of the trace: priority must be a whole number from -1000000 to 1000000, not '1000001'."),
        ("1,a", "Line 3 of the trace does not have one value for each column."),
        ("1,a,1,0,7", "Line 3 of the trace does not have one value for each column."),
    ],
)
def test_a_bad_row_is_named_with_line_and_column(row: str, said: str) -> None:
    with pytest.raises(BadTrace) as refused:
        read("0,a,1,0", row, "2,a,1,0")
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("arrival_s,model", "The trace lacks the column seconds; its first line names the columns arrival_s, model, seconds[, priority]."),
        ("0,a,1,0", "The trace lacks the column arrival_s; its first line names the columns arrival_s, model, seconds[, priority]."),
        (f"{HEAD},node", "The trace has an unknown column 'node'; the columns are arrival_s, model, seconds, priority."),
    ],
)
def test_a_bad_first_line_is_refused(head: str, said: str) -> None:
    with pytest.raises(BadTrace) as refused:
        read("0,a,1,0", head=head)
    assert str(refused.value) == said


def test_a_column_named_twice_is_refused() -> None:
    with pytest.raises(BadTrace, match="seconds"):
        read("0,a,1,2", head="arrival_s,model,seconds,seconds")


def test_a_trace_without_jobs_is_refused() -> None:
    for lines in ([], [HEAD + "\n"]):
        with pytest.raises(BadTrace):
            read_trace(lines)


def test_what_is_no_csv_is_refused() -> None:
    with pytest.raises(BadTrace):
        read_trace([HEAD + "\n", '0,"' + "a" * 200_000 + '",1,0\n'])
