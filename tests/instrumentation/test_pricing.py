"""Prices of a user's own: what fits a model, what tokens cost by it, and a table that cannot be used."""

import json
from pathlib import Path

import pytest

from otel_llm.pricing import Price, Prices, cost_of, read_prices
from otel_llm.records import Usage

TABLE = {
    "*": {"input": 9, "output": 9},
    "hosted_vllm/*": {"input": 1, "output": 2},
    "hosted_vllm/qwen*": {"input": 0.1, "output": 0.4, "cache_read": 0.02},
    "hosted_vllm/qwen*72b": {"input": 0.5, "output": 1.5},
    "hosted_vllm/qwen-7b": {"input": 0, "output": 0},
    "meta-llama/*": {"input": 3, "output": 4},
}


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("hosted_vllm", "qwen-7b", Price(0, 0)),
        ("hosted_vllm", "qwen-14b", Price(0.1, 0.4, 0.02)),
        ("hosted_vllm", "qwen-72b", Price(0.5, 1.5)),
        ("hosted_vllm", "mistral", Price(1, 2)),
        ("openai", "meta-llama/Llama-3", Price(3, 4)),
        ("openai", "gpt-4o", Price(9, 9)),
        (None, "meta-llama/Llama-3", Price(3, 4)),
    ],
)
def test_the_most_specific_pattern_that_fits_counts(provider: str | None, model: str, price: Price) -> None:
    assert read_prices(json.dumps(TABLE)).find(provider, model) == price


def test_a_model_that_no_pattern_fits_has_no_price() -> None:
    assert read_prices('{"hosted_vllm/qwen*": {"input": 1}}').find("hosted_vllm", "mistral") is None
    assert not read_prices(None)
    assert Prices().find("hosted_vllm", "mistral") is None


@pytest.mark.parametrize(
    ("usage", "price", "dollars"),
    [
        (Usage(1_000_000, 0), Price(0.1, 0.4), 0.1),
        (Usage(1000, 500), Price(0.1, 0.4), 0.0003),
        # Cached tokens are part of the input: 36 plain, 64 read.
        (Usage(100, 0, 64), Price(1, 1, cache_read=0.5), 0.000068),
        (Usage(100, 0, 64, 16), Price(1, 1, 0.5, 2), 0.000084),
        (Usage(100, 0, 64, 16), Price(1, 1), 0.0001),
        (Usage(11, 7), Price(0, 0), 0.0),
        (Usage(11), Price(1), 0.000011),  # embeddings: no output, and no price for it
        (Usage(11), Price(1, 1), None),
        (Usage(11, 7), Price(1), None),
        (Usage(None, 7), Price(1, 1), None),
        (Usage(10, 7, 64), Price(1, 1), None),  # a server that does not count cached tokens as input
        (Usage(11, 7, is_estimated=True), Price(1, 1), None),
    ],
)
def test_tokens_cost_what_the_table_says_or_are_not_priced(usage: Usage, price: Price, dollars: float | None) -> None:
    cost = cost_of(usage, price)
    assert cost == (None if dollars is None else pytest.approx(dollars, rel=1e-12))


def test_a_file_is_read_as_json_itself_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(TABLE))

    assert read_prices(str(file)).find("hosted_vllm", "qwen-14b") == Price(0.1, 0.4, 0.02)
    assert caplog.messages == []


def test_rows_that_cannot_be_used_are_named_together_in_one_warning_and_the_others_hold(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = {
        "good": {"input": 1, "output": 2},
        "typo": {"input": 1, "ouput": 2},
        "negative": {"input": -1, "output": 2},
        "word": {"input": "1", "output": 2},
        "outputs": {"output": 2},
        "empty": {},
        "list": [1, 2],
    }

    prices = read_prices(json.dumps(table))

    assert {name: prices.find(None, name) for name in table if prices.find(None, name)} == {"good": Price(1, 2)}
    (message,) = caplog.messages
    assert message == (
        "OTEL_LLM_PRICES: 'typo' has 'ouput', which is none of input, output, cache_read, cache_write; "
        "'negative' has -1 for 'input', which is not a price; 'word' has '1' for 'input', which is not a price; "
        "'outputs' has no price for 'input'; 'empty' has no prices; 'list' has no prices; these prices are not used"
    )


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "/nowhere/prices.json", '{"a": {"input": NaN}}', '{"a": {"input": 1e999}}', "{" + "[" * 100_000],
)
def test_a_table_that_is_none_is_named_once_and_nothing_is_priced(caplog: pytest.LogCaptureFixture, text: str) -> None:
    assert not read_prices(text)
    assert [message[:16] for message in caplog.messages] == ["OTEL_LLM_PRICES:"]


def test_a_file_that_is_no_table_of_prices_by_its_size_is_not_read_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "prices.json"
    file.write_text("{" + " " * 2_000_000 + "}")

    assert not read_prices(str(file))
    assert "is larger than 1048576 bytes" in caplog.messages[0]


def test_output_that_is_not_counted_in_tokens_keeps_no_price_from_the_input() -> None:
    """One row may stand for chat and embeddings of a server."""
    row = Price(input=0.1, output=0.4)
    embedded = Usage(input_tokens=5)
    assert cost_of(embedded, row, has_output=False) == pytest.approx(5 * 0.1 / 1e6)
    assert cost_of(embedded, row) is None
