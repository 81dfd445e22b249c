"""What is masked, what is left alone, and that no text and no file of own patterns makes it slow or fail."""

import logging
import random
import time
from pathlib import Path

import pytest

from otel_llm.masks import Masks, read_masks
from otel_llm.settings import Settings

MEGABYTE = 1_000_000
DEADLINE_S = 10.0  # a quadratic expression takes hours for a megabyte


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to bob.x+y@mail.example.com.", "write to [masked:email]."),
        ("sk-proj-Ab12cd34 and sk-1234", "[masked:key] and [masked:key]"),
        ("sk-ant-api03-abcDEF", "[masked:key]"),
        ("sk-" + "a" * 20, "[masked:key]"),
        ("hf_abcdefghijklmnop AKIAABCDEFGHIJKLMNOP", "[masked:key] [masked:key]"),
        ("ghp_0123456789abcdefghij xoxb-123-456-abc", "[masked:key] [masked:key]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[masked:key]"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [masked:key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY----- end", "[masked:key] end"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc, cut off", "[masked:key]"),
        ('password=hunter22 "api_key": "zz-yy-xx"', 'password=[masked:secret] "api_key": "[masked:secret]"'),
        ("http://bob:hunter2@host/x?sig=abcdef&y=1", "http://[masked:secret]@host/x?sig=[masked:secret]&y=1"),
        ("+49 170 1234567, (555) 123-4567, 555-123-4567", "[masked:phone], [masked:phone], [masked:phone]"),
        ("0170 1234567 or 030/1234567 or 01701234567", "[masked:phone] or [masked:phone] or [masked:phone]"),
        ("4111 1111 1111 1111, 5500005555555559", "[masked:card], [masked:card]"),
        ("3782 822463 10005 2345 4111-1111-1111-1111", "[masked:card] 2345 [masked:card]"),
        ("2345 4111 1111 1111 1111", "2345 [masked:card]"),
    ],
)
def test_secrets_and_personal_data_are_masked(text: str, masked: str) -> None:
    assert Masks().apply(text) == masked
    assert Masks().apply(masked) == masked, "a second time changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "It was 2026-11-21T10:00:00Z, 1700000000 s, 3.14159265358979 rad.",
        "192.168.100.200:8000 and 550e8400-e29b-41d4-a716-446655440000",
        "ISBN 978-3-16-148410-0, order 12345-678, 4111 1111 1111 1112",
        "scikit-learn, sk-learn pipelines, the bearer of news, max_tokens: 4096, key: value",
        "a@b, @home, 10 @ 5, git commit 1234567",
        "",
    ],
)
def test_what_only_looks_alike_is_left_alone(text: str) -> None:
    assert Masks().apply(text) == text


ADVERSARIAL = {
    "word": "a" * MEGABYTE,
    "local parts": "a@" * (MEGABYTE // 2),
    "dots": "a." * (MEGABYTE // 2),
    "domains": "a@" + "a." * (MEGABYTE // 2) + "!",
    "digits": "9" * MEGABYTE,
    "groups of four": "4111 " * (MEGABYTE // 5),
    "digits with dashes": "9-" * (MEGABYTE // 2),
    "phones": "+1 2.3-4/" * (MEGABYTE // 9),
    "zeros": "0170 " * (MEGABYTE // 5),
    "keys": "sk-" * (MEGABYTE // 3),
    "broken keys": "sk-!" * (MEGABYTE // 4),
    "tokens": "eyJaaaaaaaa." * (MEGABYTE // 12),
    "private keys": "-----BEGIN PRIVATE KEY-----" * (MEGABYTE // 27),
    "dashes": "-" * MEGABYTE,
    "bearers": "bearer " * (MEGABYTE // 7),
    "names of secrets": "api_key= " * (MEGABYTE // 9),
    "users": "://" + "a:" * (MEGABYTE // 2),
    "spaces": "password:" + " " * MEGABYTE,
}


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_a_megabyte_made_to_be_slow_is_masked_in_time(kind: str) -> None:
    started = time.perf_counter()
    Masks().apply(ADVERSARIAL[kind])
    assert time.perf_counter() - started < DEADLINE_S


def test_the_head_of_a_huge_text_costs_no_more_than_a_small_one() -> None:
    text = "bob@example.com " * 10_000_000
    started = time.perf_counter()
    head, left = Masks().head(text, 100)
    assert time.perf_counter() - started < DEADLINE_S / 10
    assert head == ("[masked:email] " * 10)[:100]
    assert left > 150_000_000


def test_no_half_of_a_secret_is_left_at_a_cut() -> None:
    """Wherever the cut falls, no more of a secret is seen than its first characters before a mask begins."""
    secrets = ["bob.baumeister@example.com", "sk-proj-0123456789abcdef", "4111 1111 1111 1111", "+49 170 1234567"]
    text = "".join(f"{'word ' * 30}{secret} " for secret in secrets * 20)
    for most in range(1, 3000, 7):
        head, left = Masks().head(text, most)
        assert len(head) <= most
        assert left > 0
        for secret in secrets:
            assert secret[:8] not in head


def test_random_texts_keep_every_word_that_is_no_secret() -> None:
    choose = random.Random(7)
    words = ["plain", "words", "2026-11-21", "x=1", "naïve", "日本語", "😀", "\n", "\t", "a.b.c"]
    for _ in range(200):
        text = " ".join(choose.choices(words, k=50))
        assert Masks().apply(text) == text


def test_own_patterns_are_read_and_a_bad_one_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text("# staff\nstaff = EMP-[0-9]+\n\nPROJECT-\\w+\nbroken=(\n(a+)+$\nx*\nlast=zzz\n")
    with caplog.at_level(logging.WARNING):
        masks = read_masks(Settings(mask_patterns_file=str(file)))
    assert masks.apply("EMP-17 on PROJECT-X zzz bob@example.com") == (
        "[masked:staff] on [masked:own] [masked:last] [masked:email]"
    )
    assert [record.getMessage().partition(": the pattern ")[0] for record in caplog.records] == [
        f"{file}:5",
        f"{file}:6",
        f"{file}:7",
    ]
    assert "repeats within a repetition" in caplog.records[1].getMessage()


def test_own_patterns_work_without_the_built_in_ones(tmp_path: Path) -> None:
    file = tmp_path / "patterns.txt"
    file.write_text("EMP-[0-9]+")
    masks = read_masks(Settings(mask_content=False, mask_patterns_file=str(file)))
    assert masks.apply("EMP-17 bob@example.com") == "[masked:own] bob@example.com"
    assert read_masks(Settings(mask_content=False)).apply("bob@example.com") == "bob@example.com"


def test_a_file_that_cannot_be_read_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        masks = read_masks(Settings(mask_patterns_file=str(tmp_path / "none.txt")))
    assert masks.apply("bob@example.com") == "[masked:email]"
    (record,) = caplog.records
    assert "none.txt cannot be read" in record.getMessage()
