"""Any text can be kept and shown once it was made plain, and text that people write stays as it is."""

from __future__ import annotations

import io
import json
import logging
import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from celery import signals
from celery.app.log import TaskFormatter
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from distill_queue.scheduler.terminal.output import PlainFormatter, Terminal
from distill_queue.shared.errors import InvalidSpec, StageFailed
from distill_queue.shared.line import first_line
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.manifest import Manifest, Provenance
from distill_queue.shared.text import encodable, json_text, plain_line, plain_text, said
from distill_queue.worker.app import _require_plain_name as require_plain_name
from distill_queue.worker.telemetry.log_formatter import LogFormatter, format_logs
from tests.conftest import small_spec
from tests.properties import examples

#: Any text: halves of pairs, controls and formats more often than chance has them, and whole commands to terminals.
ANY_TEXT = st.lists(
    st.text(st.characters(exclude_categories=()))
    | st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp")))
    | st.sampled_from(["\x1b[31m", "\x1b[0m", "\x1b]8;;http://x\x1b\\", "\x9b2J", "\r\n", "\udcff", "\u202e", "\x00"])
).map("".join)
LEGITIMATE = [
    "李娜",
    "größer, naïve",
    "می\u200cروم",
    "👩\u200d👧 ☕️ 🇩🇪",
    "a\u3000b\u00a0c",
    "x² ≤ ½ · €",
    r"C:\x1b \ud800",
]
ESCAPED = "\x1b]0;title\x07 \x1b]52;c;eA==\x1b\\ \x9b31m \u202e \u2066 \u2028 \ud800 \x7f \x00"


def hidden(text: str) -> str:
    """What is not shown but obeyed, or cannot be encoded."""
    return "".join(
        each
        for each in text
        if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and each not in "\u200c\u200d"
    )


@given(ANY_TEXT, st.integers(100, 300))
@example("\x1b[\x1b[0m31m", 100)
@example("x\n" * 500, 100)
def test_a_plain_line_is_one_that_every_terminal_shows(text: str, longest: int) -> None:
    line = plain_line(text, longest)

    assert hidden(line) == ""
    assert len(line.splitlines()) <= 1
    assert len(line) <= longest
    assert line.encode().decode() == line
    assert plain_line(line, longest) == line


@given(ANY_TEXT, st.integers(100, 300))
@example("\x1b" * 2_000, 100)
def test_a_plain_text_keeps_its_lines_and_tabs_alone(text: str, longest: int) -> None:
    plain = plain_text(text, longest)

    assert set(hidden(plain)) <= {"\n", "\t"}
    assert len(plain) <= longest
    assert plain.encode().decode() == plain
    assert plain_text(plain, longest) == plain


@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_text_that_is_shown_as_it_is_stays_as_it_is(text: str) -> None:
    assert (plain_line(text), plain_text(text), encodable(text)) == (text, text, text)


@pytest.mark.parametrize("text", LEGITIMATE)
def test_words_and_emoji_of_all_peoples_stay_as_they_are(text: str) -> None:
    assert (plain_line(text), plain_text(text), str(StageFailed(text))) == (text, text, text)


def test_what_is_not_shown_is_told_by_its_number_and_colours_are_left_out() -> None:
    assert plain_line("\x1b[1;31mred\x1b[0m\tor\r\nnot") == "red or not"
    assert plain_line(ESCAPED) == (r"\x1b]0;title\x07 \x1b]52;c;eA==\x1b\ \x9b31m \u202e \u2066   \ud800 \x7f \x00")
    assert plain_text("a\r\nb\rc\u2028\td") == "a\nb\\rc\\u2028\td"


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = plain_text("first" + "x" * 9_000 + "last", 1_000)

    assert (text[:5], text[-4:]) == ("first", "last")
    assert "… 8,069 characters are left out …" in text


@examples(50)
@given(st.dictionaries(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT | st.none(), max_size=3), max_size=3))
def test_json_is_read_as_what_it_was_and_commands_nothing(value: object) -> None:
    for indent in (None, 1):
        text = json_text(value, indent=indent)

        assert json.loads(text) == json.loads(json.dumps(value))
        assert set(hidden(text)) <= {"\n"}


def test_errors_say_what_can_be_stored_also_where_their_own_words_are_an_error() -> None:
    class Mute(ValueError):
        def __str__(self) -> str:
            raise KeyError("no words")

    class Wrong(ValueError):
        def __str__(self) -> str:
            return None  # type: ignore[return-value]

    assert said(Mute()) == "its text cannot be had: KeyError"
    assert said(Wrong()) == "its text cannot be had: TypeError"
    assert first_line(ValueError("\x1b[31mone\ud800\ntwo")) == r"one\ud800"
    assert first_line(ValueError()) == "ValueError"
    error = InvalidSpec(f"a\nb: {ESCAPED}")
    assert set(hidden(str(error))) == {"\n"}
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(InvalidSpec("x" * 10_000_000))) <= 100_000


def test_a_console_obeys_neither_markup_nor_escapes_and_measures_what_it_shows() -> None:
    from rich.table import Table

    table, console = Table(title=ESCAPED), Terminal(file=io.StringIO(), width=400)
    table.add_column(ESCAPED)
    table.add_row(f"[bold]a[/] {ESCAPED}")
    table.add_row(Text(f"[link=http://x]b[/link] {ESCAPED}", "red"))
    console.print(table)
    console.print(f"[red]c[/] {ESCAPED} :smile: 李", soft_wrap=True)

    shown = console.file.getvalue()  # type: ignore[attr-defined]

    assert set(hidden(shown)) == {"\n"}
    assert all(each in shown for each in ("[bold]a[/]", "[link=http://x]b[/link]", "[red]c[/]", ":smile: 李"))
    *rows, _ = shown.splitlines()
    assert {len(row.rstrip()) for row in rows[1:]} == {len(rows[1].rstrip())}


def test_a_terminal_keeps_the_styles_that_are_ours() -> None:
    console = Terminal(file=io.StringIO(), width=80)
    console._color_system, console._force_terminal = 1, True  # type: ignore[assignment]

    console.print(Text("passed \x1b[31m", "green"))

    assert console.file.getvalue() == "\x1b[32mpassed \x1b[0m\n"  # type: ignore[attr-defined]


def record(message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("own", logging.WARNING, "own.py", 1, message, values, info)  # type: ignore[arg-type]


@pytest.mark.parametrize("formatter", [LogFormatter("%(message)s", date_format=None, colours=False), PlainFormatter()])
def test_no_message_can_be_taken_for_another_entry_of_a_log(formatter: logging.Formatter) -> None:
    text = formatter.format(record("Task %s received", f"a\r\n[2026-11-26: ERROR] forged {ESCAPED}"))

    assert set(hidden(text)) == {"\n"}
    if isinstance(formatter, LogFormatter):
        assert text.splitlines()[1].startswith("    [2026-11-26: ERROR] forged ")


def test_a_log_shows_its_own_colours_and_an_entry_without_words() -> None:
    class Mute:
        def __str__(self) -> str:
            raise KeyError

    colourful = LogFormatter("%(message)s", date_format=None, colours=True)

    assert colourful.format(record("all \x1b[31m well \x1b[5n")) == "\x1b[1;33mall  well \\x1b[5n\x1b[0m"
    assert "WARNING: own: a message whose text cannot be had: KeyError" in colourful.format(record("%s", Mute()))
    assert len(colourful.format(record("%s", error=ValueError("x" * 1_000_000)))) < 110_000


def test_celerys_formatters_are_replaced_and_others_stay() -> None:
    celerys, other = logging.StreamHandler(), logging.StreamHandler()
    celerys.setFormatter(TaskFormatter("%(task_id)s %(message)s", use_color=False))
    other.setFormatter(theirs := logging.Formatter())
    logger = logging.Logger("root")
    logger.handlers = [celerys, other]

    format_logs()
    signals.after_setup_logger.send(sender=None, logger=logger)

    assert isinstance(celerys.formatter, LogFormatter)
    assert celerys.formatter.format(record("\x1b]0;x\x07")) == r"??? \x1b]0;x\x07"
    assert other.formatter is theirs


def test_a_worker_whose_name_is_not_shown_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    require_plain_name("worker-größer@host")

    with pytest.raises(SystemExit, match="2"):
        require_plain_name("a\x1b[31m@host")

    assert r"error: -n: no valid name of a worker: 'a\x1b[31m@host': a character of it" in capsys.readouterr().err


def test_a_spec_of_a_program_with_half_of_a_character_is_refused_by_name() -> None:
    for changes in ({"dataset": {"name": "own:data", "options": {"a": "\ud800"}}}, {"\ud800": 1}):
        with pytest.raises(InvalidSpec, match=r"^spec: has an escape that is no character$"):
            PipelineSpec.of(small_spec(**changes))
    for options in ({"a": [["\ud800"]]}, {"\ud800": 1}):
        with pytest.raises(ValueError, match="has an escape that is no character"):
            PipelineSpec.model_validate(small_spec(dataset={"name": "own:data", "options": options}))


def test_a_title_that_comes_with_a_message_is_made_plain_and_its_key_stays(stage: Stage) -> None:
    received = Stage.model_validate(stage.model_dump() | {"title": "prepare \ud800\x1b[2J"})

    assert received.title == r"prepare \ud800\x1b[2J"
    assert (received.key, received.of_this_version) == (stage.key, True)
    assert Stage.model_validate_json(received.model_dump_json()) == received


def test_a_warning_is_read_under_the_checksum_with_which_it_was_written() -> None:
    from distill_queue.shared.results.records import DatasetRecord, DataWarning

    record = DatasetRecord(
        shape=(1,), class_names=("a",), train_samples=1, labelled_samples=1, validation_samples=0, test_samples=1,
        mean=(0.0,), std=(1.0,), warnings=(DataWarning(kind="x", text=f"{ESCAPED} {' '.join(LEGITIMATE)}"),),
    )  # fmt: skip
    manifest = Manifest(
        kind="prepare_data", key="a" * 64, stage=None, files={}, record=record,
        provenance=Provenance(host="h", device="cpu", versions={}), seconds=0.0, created=0.0,
    ).sealed()  # fmt: skip

    again = Manifest.model_validate_json(manifest.model_dump_json())

    assert again.whole
    assert again.record.warnings[0].text.isprintable(), "else earlier versions would read another text"


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_terminal_of_any_encoding_shows_what_it_has(encoding: str, tmp_path: Path) -> None:
    spec = tmp_path / "größer 李.yaml"
    code = (
        "import sys; from distill_queue.scheduler.terminal.output import print_json; "
        "from distill_queue.scheduler.cli.main import main; print_json({'a': '李'}); main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "validate", str(spec)],
        env={"PYTHONIOENCODING": encoding, "PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        check=False,
    )

    assert json.loads(done.stdout.decode(encoding)) == {"a": "李"}
    assert done.returncode == 2
    assert done.stderr.decode(encoding).startswith("error: ")
    assert "Traceback" not in done.stderr.decode(encoding)
