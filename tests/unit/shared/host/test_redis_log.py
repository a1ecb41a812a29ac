"""Redis' last words are found in its log, without what it says at each start and end."""

from pathlib import Path

import pytest

from shared.host.redis_log import is_damaged, last_words, last_words_in

START = """\
9:M 29 Nov 2026 19:38:20.014 # WARNING Memory overcommit must be enabled! Without it, a background save may fail.
9:M 29 Nov 2026 19:38:20.046 * Running mode=standalone, port=6379.
"""
FULL = """\
9:M 29 Nov 2026 19:38:21.216 # Short write while writing to the AOF file: (nwritten=88287, expected=100033)
9:M 29 Nov 2026 19:38:21.216 # Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...
"""
CORRUPT = """\
9:M 29 Nov 2026 19:38:51.219 # Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup
"""
END = """\
9:signal-handler (1795981131) Received SIGTERM scheduling shutdown...
9:M 29 Nov 2026 19:38:51.155 * User requested shutdown...
9:M 29 Nov 2026 19:38:51.156 # Valkey is now ready to exit, bye bye...
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            START + FULL,
            "Short write while writing to the AOF file: (nwritten=88287, expected=100033) Can't recover from AOF write "
            "error when the AOF fsync policy is 'always'. Exiting... (29 Nov 2026 19:38:21)",
        ),
        (
            START + CORRUPT + START + CORRUPT,  # it was started again
            "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup "
            "(29 Nov 2026 19:38:51)",
        ),
        (START + END, ""),
        ("no log\n# at all\n", ""),
    ],
)
def test_the_last_warnings_are_its_last_words(tmp_path: Path, log: str, words: str) -> None:
    (tmp_path / "redis.log").write_text(log)
    assert last_words(tmp_path / "redis.log") == words


def test_without_a_log_there_are_none(tmp_path: Path) -> None:
    assert last_words(tmp_path / "redis.log") == ""


@pytest.mark.parametrize(("log", "damaged"), [(CORRUPT, True), (FULL, False), ("", False)])
def test_a_redis_that_cannot_read_its_data_is_told_apart(log: str, damaged: bool) -> None:
    assert is_damaged(last_words_in(START + log)) == damaged
