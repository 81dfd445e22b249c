"""The model of continuous batching, stepped by hand on a clock that only the test moves."""

import random

import pytest

from otel_agent.simulate.engine import Engine
from otel_agent.simulate.options import BLOCK_TOKENS, EngineOptions
from otel_agent.simulate.sequence import Sequence
from otel_agent.simulate.text import Answer

FAST = {"step_s": 0.01, "sequence_s": 0.001, "prefill_tokens_per_s": 1000.0}


def make_engine(**options):
    return Engine(EngineOptions(**{**FAST, "max_model_len": 512, "kv_blocks": 64, **options}))


def make_sequence(prompt, tokens, *, name="one", distinct=0, reason="length", error_after=None):
    words = tuple(range(distinct * 100_000, distinct * 100_000 + prompt))
    return Sequence(name, words, Answer(distinct % 7, tokens, reason), tokens, error_after=error_after)


def run(engine, now=0.0):
    """Step until nothing is left to do; return the steps."""
    steps = []
    while step := engine.step(now):
        now = step.ended_s
        steps.append(step)
    return steps


def test_one_request_is_queued_read_and_answered_a_token_at_a_time():
    engine = make_engine()
    one = make_sequence(100, 3)
    engine.add(one, 1.0)
    steps = run(engine, 2.0)

    assert [[count for _, count in step.work] for step in steps] == [[100], [1], [1]]
    assert (one.queued_s, one.scheduled_s) == (1.0, 2.0)
    assert one.first_s == pytest.approx(2.0 + 0.01 + 100 / 1000)  # a step, and the time to read the prompt
    assert one.last_s == pytest.approx(one.first_s + 2 * 0.01)
    assert (one.generated, one.finish) == (3, "length")
    assert [gap for step in steps for gap in step.gaps_s] == pytest.approx([0.01, 0.01])
    assert steps[-1].finished == [one]
    assert engine.blocks.free == engine.blocks.total


def test_a_prompt_longer_than_the_budget_of_a_step_is_read_in_parts_while_others_go_on():
    engine = make_engine(max_num_batched_tokens=40)
    talker, reader = make_sequence(10, 20, distinct=1), make_sequence(100, 1, distinct=2)
    engine.add(talker, 0.0)
    engine.step(0.0)
    engine.add(reader, 0.0)
    steps = run(engine, 1.0)[:3]

    assert [[count for _, count in step.work] for step in steps] == [[1, 39], [1, 39], [1, 22]]
    assert [len(step.spoke) for step in steps] == [1, 1, 2]
    assert reader.finish == "length"


def test_who_finds_no_seat_waits_until_one_is_free():
    engine = make_engine(max_num_seqs=1)
    first, second = make_sequence(10, 5, distinct=1), make_sequence(10, 5, distinct=2)
    engine.add(first, 0.0)
    engine.add(second, 0.0)
    run(engine)

    assert first.scheduled_s == 0.0
    assert second.scheduled_s == pytest.approx(first.last_s)
    assert second.scheduled_s - second.queued_s == pytest.approx(5 * 0.01 + 10 / 1000)


def test_a_step_takes_longer_the_more_sequences_it_serves():
    engine = make_engine()
    for number in range(8):
        engine.add(make_sequence(1, 4, distinct=number), 0.0)
    assert [step.duration_s for step in run(engine)] == pytest.approx([0.01 + 7 * 0.001] * 4)


def test_the_one_let_in_last_is_preempted_when_blocks_run_out_and_reads_again():
    """Four blocks: each of two sequences needs three by its end."""
    engine = make_engine(kv_blocks=4, max_model_len=64)
    first, last = make_sequence(20, 28, distinct=1), make_sequence(20, 28, distinct=2)
    engine.add(first, 0.0)
    engine.add(last, 0.0)
    steps = run(engine)

    preempted = [step for step in steps if step.preempted]
    assert [step.preempted for step in preempted] == [[last]]
    assert (first.preemptions, last.preemptions) == (0, 1)
    assert (first.generated, last.generated) == (28, 28)
    assert last.scheduled_s == 0.0  # the first time counts
    assert preempted[0].work == [(first, 1)]  # nobody is let in by a step that had to preempt
    again = next(count for step in steps[steps.index(preempted[0]) + 1 :] for who, count in step.work if who is last)
    assert (
        again == 20 + 13 - BLOCK_TOKENS
    )  # with the 13 that it had said; its first block was not needed and is still known
    assert max(step.duration_s for step in steps[1:]) > 0.02  # reading again takes its time


def test_an_equal_beginning_is_read_once():
    engine = make_engine()
    first, second, third = make_sequence(64, 2), make_sequence(64, 2), make_sequence(70, 2)
    read = []
    for sequence in (first, second, third):
        engine.add(sequence, 0.0)
        read.append(run(engine)[0].work[0][1])

    assert (first.cached, second.cached, third.cached) == (0, 48, 64)  # of 64 equal ones the last is always computed
    assert read == [64, 16, 6]


def test_an_answer_is_a_beginning_too():
    """The next turn of a conversation finds the last one's answer in the cache."""
    engine = make_engine()
    first = make_sequence(20, 60)
    engine.add(first, 0.0)
    run(engine)
    whole = first.tokens(0, first.length)
    second = Sequence("two", (*whole, 7, 8, 9), Answer(0, 1, "length"))
    engine.add(second, 0.0)
    run(engine)
    assert second.cached == (20 + 60 - 1) // BLOCK_TOKENS * BLOCK_TOKENS


def test_what_is_shared_is_not_taken_from_those_who_still_use_it():
    engine = make_engine(kv_blocks=6, max_model_len=96)
    first, second = make_sequence(33, 40), make_sequence(33, 2)
    engine.add(first, 0.0)
    engine.step(0.0)
    engine.add(second, 0.0)
    engine.step(1.0)
    assert second.blocks[:2] == first.blocks[:2]
    assert engine.blocks.used == 4
    run(engine, 2.0)
    assert (first.generated, second.generated) == (40, 2)
    assert engine.blocks.free == 6


@pytest.mark.parametrize("where", ["waiting", "reading", "answering", "in a step"])
def test_an_abort_gives_everything_back(where):
    engine = make_engine(max_num_batched_tokens=16)
    one = make_sequence(40, 10)
    engine.add(one, 0.0)
    for _ in range({"waiting": 0, "reading": 1, "answering": 4, "in a step": 4}[where]):
        engine.step(0.0)
    said = one.generated
    step = engine.begin(5.0) if where == "in a step" else None

    assert engine.abort(one) is True
    if step:
        engine.finish(step, 6.0)
        assert (step.spoke, step.finished) == ([], [])
    assert (one.finish, one.generated) == ("abort", said)
    assert (engine.blocks.free, engine.running, list(engine.waiting)) == (engine.blocks.total, [], [])
    assert engine.abort(one) is False
    assert engine.step(9.0) is None


def test_an_engine_error_ends_a_sequence_after_its_tokens():
    engine = make_engine()
    one = make_sequence(10, 10, error_after=3)
    engine.add(one, 0.0)
    assert run(engine)[-1].finished == [one]
    assert (one.finish, one.generated) == ("error", 3)


def test_a_pooling_request_ends_once_it_is_read():
    engine = make_engine(max_num_batched_tokens=16)
    one = Sequence("embd-1", tuple(range(40)), None)
    engine.add(one, 0.0)
    steps = run(engine)
    assert [count for step in steps for _, count in step.work] == [16, 16, 8]
    assert (one.finish, one.generated, one.first_s == one.last_s) == ("stop", 0, True)


def test_pausing_new_lets_the_running_go_on_and_pausing_all_nobody():
    engine = make_engine()
    running, new = make_sequence(10, 3, distinct=1), make_sequence(10, 3, distinct=2)
    engine.add(running, 0.0)
    engine.step(0.0)
    engine.add(new, 0.0)
    engine.paused = "all"
    assert engine.step(1.0) is None
    engine.paused = "new"
    run(engine, 2.0)
    assert (running.finish, new.finish) == ("length", None)
    engine.paused = None
    run(engine, 3.0)
    assert new.finish == "length"


@pytest.mark.parametrize(("prompt", "tokens"), [(0, 1), (500, 13)])
def test_what_can_never_be_served_is_refused(prompt, tokens):
    engine = make_engine()
    with pytest.raises(ValueError, match=r"empty|more than the 512"):
        engine.add(make_sequence(prompt, tokens), 0.0)
    assert not engine.waiting


def test_blocks_and_tokens_are_conserved_at_every_step_under_pressure():
    """Thousands of steps with arrivals, preemptions, shared prefixes and aborts; all of it decided by one seed."""
    chance = random.Random(5)
    engine = make_engine(kv_blocks=40, max_model_len=256, max_num_seqs=12, max_num_batched_tokens=64)
    alive, everyone, now, spoken, hits, preempted = [], [], 0.0, 0, 0, 0
    for turn in range(3000):
        if chance.random() < 0.2 and len(alive) < 30:
            prompt = chance.randrange(1, 180)
            one = make_sequence(prompt, chance.randrange(1, 256 - prompt + 1), distinct=chance.randrange(5))
            engine.add(one, now)
            alive.append(one)
            everyone.append(one)
        step = engine.begin(now)
        if alive and chance.random() < 0.02:
            leaving = chance.choice(alive)
            engine.abort(leaving)
        if step:
            assert 0 < sum(count for _, count in step.work) <= 64, turn
            assert len(step.work) <= 12
            now += step.duration_s
            engine.finish(step, now)
            spoken += len(step.spoke)
            preempted += len(step.preempted)
            hits += sum(bool(one.cached) for one in step.admitted)
        alive = [one for one in alive if not one.finish]
        held = {block for one in engine.running for block in one.blocks}
        assert engine.blocks.used == len(held)
        assert engine.blocks.used + engine.blocks.free == 40
        assert all(len(one.blocks) == -(-one.computed // BLOCK_TOKENS) for one in engine.running)
        assert all(one.blocks == [] for one in engine.waiting)
        assert set(alive) == {*engine.running, *engine.waiting}
    run_out = run(engine, now)
    spoken += sum(len(step.spoke) for step in run_out)

    assert spoken == sum(one.generated for one in everyone)
    assert all(one.finish in ("length", "abort") for one in everyone)
    assert all(one.generated == one.answer.tokens for one in everyone if one.finish == "length")
    assert engine.blocks.free == 40
    assert preempted > 20
    assert hits > 20
    assert len(everyone) > 100
