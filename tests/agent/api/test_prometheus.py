"""The text formats of Prometheus, byte by byte where a detail decides whether a scrape is taken."""

import math

from otel_agent.api.prometheus import render
from otel_agent.catalogue import Metric


def row(name, kind="gauge", unit="By", help="What is measured."):
    return Metric(name, kind, unit, help, lambda _: [], ())


def test_values_and_labels_are_written_as_the_format_has_them():
    points = [
        (1, {"b": 'say "hi"\n\\o/', "a.dotted": True}),
        (0.1, {"9lives": 3}),
        (math.inf, {"x": "é"}),
        (-math.inf, {}),
        (math.nan, {"n": "1"}),
        (1e300, {"big": "y"}),
        (12345678901234.0, {"whole": "y"}),
    ]
    assert render([(row("some.metric", help="Back\\slash\nand line."), points)], "text") == (
        "# HELP some_metric_bytes Back\\\\slash\\nand line.\n"
        "# TYPE some_metric_bytes gauge\n"
        'some_metric_bytes{a_dotted="true",b="say \\"hi\\"\\n\\\\o/"} 1\n'
        'some_metric_bytes{key_9lives="3"} 0.1\n'
        'some_metric_bytes{x="é"} +Inf\n'
        "some_metric_bytes -Inf\n"
        'some_metric_bytes{n="1"} NaN\n'
        'some_metric_bytes{big="y"} 1e+300\n'
        'some_metric_bytes{whole="y"} 12345678901234\n'
    )


def test_a_name_that_is_no_utf_8_does_not_break_the_scrape():
    text = render([(row("some.metric"), [(1, {"name": "bad\udcff"})])], "text")

    assert 'name="bad?"' in text
    text.encode()


def test_attributes_that_fall_on_one_label_are_joined():
    assert 'a_b="1;2"' in render([(row("some.metric"), [(1, {"a.b": "1", "a_b": "2"})])], "text")


def test_a_metric_of_two_sources_stands_together_once():
    text = render(
        [
            (row("hw.temperature", unit="Cel"), [(60, {"hw.id": "a"})]),
            (row("x.y"), [(1, {})]),
            (row("hw.temperature", unit="Cel"), [(40, {"hw.id": "b"})]),
        ],
        "text",
    )

    assert text.count("# TYPE hw_temperature_celsius gauge\n") == 1
    assert 'hw_temperature_celsius{hw_id="a"} 60\nhw_temperature_celsius{hw_id="b"} 40\n' in text


def test_nothing_to_tell_is_an_empty_page():
    assert render([(row("some.metric"), [])], "text") == ""
    assert render([], "openmetrics") == "# EOF\n"
