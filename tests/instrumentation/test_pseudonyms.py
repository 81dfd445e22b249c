"""Names told apart without being told: what a pseudonym is, where its key comes from, and that the key stays secret."""

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ENVIRONMENT

from otel_llm.pseudonyms import Pseudonyms, read_pseudonyms
from otel_llm.settings import Settings, read_settings

KEY = "correct horse battery staple"
OF_TEAM = "015054b98d70b29c"


def test_a_pseudonym_is_the_start_of_the_names_hmac_sha256() -> None:
    """Computed by a program of another make, as somebody would who looks a team up."""
    program = "import hmac,sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), 'sha256').hexdigest())"
    done = subprocess.run(
        [sys.executable, "-c", program, KEY, "team-a"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )

    found = read_pseudonyms(read_settings({"OTEL_LLM_HMAC_KEY": KEY}))

    assert found is not None
    assert found.of("team-a") == done.stdout.strip()[:16] == OF_TEAM


def test_one_name_has_one_pseudonym_and_another_key_gives_another() -> None:
    one, other = Pseudonyms(b"one"), Pseudonyms(b"other")

    assert one.of("team-a") == Pseudonyms(b"one").of("team-a")
    assert len({one.of("team-a"), one.of("team-b"), other.of("team-a")}) == 3
    assert len({one.of(f"tenant-{number}") for number in range(5000)}) == 5000


@pytest.mark.parametrize("name", ["", "Jürgen", "名前", "\udcff", "x" * 100_000])
def test_any_text_has_a_pseudonym(name: str) -> None:
    assert len(Pseudonyms(b"key").of(name)) == 16


def test_names_are_remembered_up_to_a_bound() -> None:
    pseudonyms = Pseudonyms(b"key")

    for number in range(10_000):
        pseudonyms.of(str(number))

    assert pseudonyms.of.cache_info().currsize == pseudonyms.of.cache_info().maxsize == 4096


def test_without_a_key_there_are_none() -> None:
    assert read_pseudonyms(Settings()) is None


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"  {KEY}\r\n"])
def test_the_key_may_be_in_a_file_without_the_blanks_around_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode())

    found = read_pseudonyms(read_settings({"OTEL_LLM_HMAC_KEY_FILE": str(file)}))

    assert found is not None
    assert found.of("team-a") == OF_TEAM


def test_the_variable_wins_over_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read_pseudonyms(Settings(hmac_key=KEY, hmac_key_file=str(tmp_path / "missing")))

    assert found is not None
    assert found.of("team-a") == OF_TEAM
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b" \n", "it is empty"),
        (b"k" * 70_000, "it is too long for a key"),
    ],
)
def test_a_file_without_a_usable_key_is_named_once_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    settings = Settings(hmac_key_file=str(file))

    assert [read_pseudonyms(settings) for _ in range(3)] == [None, None, None]
    (message,) = caplog.messages
    assert message == (
        f"OTEL_LLM_HMAC_KEY_FILE={file} cannot be read ({reason}): key alias, team and user of the proxy are left out; "
        "put a key there that this process may read and start it again"
    )


def test_the_key_is_in_no_representation_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    pseudonyms = read_pseudonyms(Settings(hmac_key=KEY))
    assert pseudonyms is not None
    pseudonyms.of("team-a")

    assert KEY not in f"{pseudonyms!r} {pseudonyms.of!r} {caplog.text}"
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(pseudonyms)
