"""Points to buckets: what a chart shows, and where it shows a gap."""

import pytest

from otel_agent.history.charts import Grid, last_values, quantiles, rates

TEN_S = Grid(since_ms=0, step_ms=10_000, count=6)


def test_a_gauge_shows_the_last_value_of_each_bucket_and_holds_it_a_while() -> None:
    points = [(1_000, 1.0), (9_000, 2.0), (15_000, 3.0)]
    assert last_values(points, TEN_S) == (2.0, 3.0, 3.0, 3.0, None, None)


def test_a_gauge_that_is_read_seldom_holds_longer() -> None:
    """A value a minute, as SDKs export by default, is one line and not dots."""
    grid = Grid(0, 10_000, 12)
    assert last_values([(0, 1.0), (60_000, 2.0)], grid) == (1.0,) * 6 + (2.0,) * 6


def test_a_series_that_ended_is_a_gap_at_once_and_may_come_back() -> None:
    points = [(5_000, 1.0), (12_000, None), (41_000, 4.0)]
    assert last_values(points, TEN_S) == (1.0, None, None, None, 4.0, 4.0)


def test_a_point_before_the_chart_holds_into_it() -> None:
    assert last_values([(-5_000, 7.0)], TEN_S)[:3] == (7.0, 7.0, None)


def test_a_counter_shows_its_rate_shared_out_over_the_buckets_it_was_observed_in() -> None:
    points = [(5_000, 10.0), (15_000, 30.0), (25_000, 30.0)]
    assert rates(points, TEN_S) == (2.0, 1.0, 0.0, None, None, None)


def test_a_counter_that_falls_was_reset() -> None:
    assert rates([(0, 100.0), (10_000, 110.0), (20_000, 5.0)], TEN_S) == (1.0, 0.5, None, None, None, None)


def test_a_counter_that_ended_has_no_rate_across_the_gap() -> None:
    points = [(0, 0.0), (10_000, 10.0), (12_000, None), (40_000, 100.0), (50_000, 110.0)]
    assert rates(points, TEN_S) == (1.0, None, None, None, 1.0, None)


def test_a_counter_nobody_read_for_a_long_time_has_no_rate_across_the_hole() -> None:
    grid = Grid(0, 10_000, 60)
    points = [(second * 1000, float(second)) for second in (0, 5, 10, 400, 405)]
    assert [i for i, rate in enumerate(rates(points, grid)) if rate is not None] == [0, 40]


def test_a_delta_counter_counts_each_point() -> None:
    assert rates([(0, 5.0), (10_000, 20.0), (20_000, 0.0)], TEN_S, delta=True)[:2] == (2.0, 0.0)


def test_quantiles_are_those_of_the_observations_of_each_bucket() -> None:
    """Interpolated as Prometheus' histogram_quantile does it."""
    points = [(0, [0, 0, 0, 0]), (9_000, [0, 10, 0, 0]), (19_000, [10, 10, 0, 0]), (29_000, [10, 10, 0, 2])]
    found = quantiles(points, [1.0, 2.0, 4.0], 0.5, TEN_S)
    assert found == (1.5, 0.5, 4.0, None, None, None)


def test_quantiles_after_a_reset_start_anew() -> None:
    points = [(0, [9, 0, 0, 0]), (9_000, [0, 4, 0, 0])]
    assert quantiles(points, [1.0, 2.0, 4.0], 1.0, TEN_S)[0] == 2.0


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
def test_without_observations_there_is_no_quantile(quantile: float) -> None:
    points = [(0, [1, 0]), (9_000, [1, 0])]
    assert quantiles(points, [1.0], quantile, TEN_S) == (None,) * 6


def test_a_thinned_chart_of_long_buckets_holds_over_them() -> None:
    grid = Grid(0, 600_000, 3, thinned=True)
    assert rates([(590_000, 0.0), (1_190_000, 600.0), (1_790_000, 1200.0)], grid) == (1.0, 1.0, 1.0)
