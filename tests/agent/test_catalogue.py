"""The rules that rows of the catalogue keep."""

import pytest

from otel_agent.catalogue import Columns, Metric, problems, values
from otel_agent.reference import metric_rows


def row(
    name="system.thing", kind="gauge", unit="s", help="What it is about.", points=lambda s: [], attributes=(), note=""
):
    return Metric(name, kind, unit, help, points, attributes, note)


def test_every_row_of_the_product_is_sound():
    assert [problem for _, rows in metric_rows() for problem in problems(rows)] == []


def test_a_name_that_two_sources_share_means_the_same():
    shapes: dict[str, set[tuple[str, str]]] = {}
    for _, rows in metric_rows():
        for each in rows:
            shapes.setdefault(each.name, set()).add((each.kind, each.unit))

    assert {name: found for name, found in shapes.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(name="Thing"), "Thing: not a dotted lower-case name"),
        (row(unit="MiB"), "system.thing: 'MiB' is not a unit of the catalogue"),
        (row(help="no sentence"), "system.thing: the help text is no sentence"),
        (row(name="otel_llm.thing"), "otel_llm.thing: a name of our own needs a note that says why"),
        (
            row(kind="counter", unit="1"),
            "system.thing: a counter of '1' counts nothing; name the thing counted, like {fault}",
        ),
        (row(attributes=("a", "a")), "system.thing: an attribute is listed twice"),
    ],
)
def test_a_mistake_in_a_declaration_is_named(wrong, said):
    assert problems([wrong]) == [said]


def test_all_mistakes_are_reported_together():
    assert len(problems([row(), row(unit="ms", help="x")])) == 3


def test_unknown_gives_no_point_and_zero_gives_one():
    assert values(row(points=lambda s: [(None, {}), (0.0, {})]), object()) == [(0.0, {})]


def test_a_point_with_an_undeclared_attribute_is_refused():
    with pytest.raises(ValueError, match=r"undeclared attributes \['b'\]"):
        values(row(points=lambda s: [(1.0, {"b": "x"})], attributes=("a",)), object())


def test_an_undeclared_attribute_is_refused_in_a_later_reading_too():
    """Attributes that the reading before had are not looked at again; any other is, also where the points are as many."""
    declared = row(points=lambda s: [(1.0, {"a": s})], attributes=("a",))
    before = values(declared, "x")
    assert values(declared, "x", before) == values(declared, "x") == [(1.0, {"a": "x"})]
    assert values(declared, "y", before) == [(1.0, {"a": "y"})]
    with pytest.raises(ValueError, match="undeclared"):
        values(row(points=lambda s: [(1.0, {"b": s})], attributes=("a",)), "x", before)


def test_points_side_by_side_are_the_same_as_pairs():
    """What has no value is left out with what it was about; the rest keeps its own attributes."""
    about = {"a": "x"}, {"a": "y"}, {"a": "z"}
    side_by_side = row(points=lambda s: Columns(s, about), attributes=("a",))

    assert values(side_by_side, [0, None, 2.5]) == [(0, {"a": "x"}), (2.5, {"a": "z"})]
    full = values(side_by_side, [1, 2, 3], values(side_by_side, [0, None, 2.5]))
    assert (full, len(full)) == (list(zip([1, 2, 3], about, strict=True)), 3)
    assert full != values(side_by_side, [1, 2, 4])
    with pytest.raises(ValueError, match="undeclared"):
        values(row(points=lambda s: Columns(s, about)), [1, 2, 3])
