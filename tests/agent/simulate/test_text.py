"""Tokens of the stand-in: reversible, stable in their beginnings, and counted the same whoever counts."""

import pytest

from otel_agent.simulate.options import EngineOptions
from otel_agent.simulate.text import PASSAGE, WIDTH, detokenize, make_answer, render_chat, tokenize


@pytest.mark.parametrize("text", ["", "a", "four", "fives", "Füße, 漢字 and \x00\x00 too", PASSAGE])
def test_a_text_comes_back_from_its_tokens(text):
    assert detokenize(tokenize(text)) == text


def test_tokens_never_seen_are_shown_as_unknown():
    assert detokenize([5, 1 << 40]) == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_longer_text_begins_with_the_tokens_of_its_beginning():
    assert tokenize("the quick brown fox")[:2] == tokenize("the quic")


def test_an_answer_counts_as_many_tokens_as_it_was_generated_with():
    answer = make_answer([1, 2, 3], 50, usual=10, endless=True)
    assert (answer.tokens, answer.reason) == (50, "length")
    text = answer.text(0, 50)
    assert tokenize(text) == [answer.token(index) for index in range(50)]
    assert "".join(answer.text(index, index + 1) for index in range(50)) == text


def test_the_same_prompt_and_seed_have_the_same_answer_and_others_their_own():
    same = [make_answer([1, 2, 3], 500, usual=100, seed=7) for _ in range(2)]
    assert same[0] == same[1]
    answers = {make_answer([number], 5000, usual=100) for number in range(50)}
    assert len({answer.tokens for answer in answers}) > 20
    assert {answer.reason for answer in answers} == {"stop"}
    assert 60 < sum(answer.tokens for answer in answers) / 50 < 180


def test_an_answer_ends_before_its_stop_string():
    whole = make_answer([1], 200, usual=10, endless=True).text(0, 200)
    stop = whole[21:27]
    at = whole.index(stop)
    answer = make_answer([1], 200, usual=10, endless=True, stops=("never there", stop))
    assert (answer.reason, answer.stop, answer.tokens) == ("stop", stop, -(-(at + len(stop)) // WIDTH))
    assert answer.text(0, answer.tokens) == whole[:at]
    assert "".join(answer.text(index, index + 1) for index in range(answer.tokens)) == whole[:at]
    kept = make_answer([1], 200, usual=10, endless=True, stops=(stop,), keep_stop=True)
    assert kept.text(0, kept.tokens) == whole[: at + len(stop)]


def test_min_tokens_are_spoken():
    assert make_answer([1], 500, usual=1, least=300).tokens == 300


def test_messages_become_one_prompt_that_grows_with_the_conversation():
    first = [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]}]
    answered = [*first, {"role": "assistant", "content": "I see"}, {"role": "user", "content": "so?"}]
    assert render_chat(first) == "user: look <image_url>\nassistant: "
    assert render_chat(answered).startswith(render_chat(first) + "I see\n")
    assert render_chat([{"role": "assistant", "content": None}], answer_follows=False) == "assistant: \n"


def test_options_that_make_no_sense_are_all_named_together():
    with pytest.raises(
        ValueError, match=r"max_num_seqs .*; step_s .*; error_rate .*; kv_blocks .* 256; otlp_protocol "
    ):
        EngineOptions(max_num_seqs=0, step_s=-1, error_rate=2, kv_blocks=3, otlp_protocol="carrier pigeon")
