"""Streams, csv and TensorBoard as a run leaves them behind: broken pipes, damaged rows, resumed sessions."""

import io
import os
import struct

import numpy as np
import pytest
from rich.console import Console

from jsafe.curves.csv_table import CsvTable, read_csv, read_progress
from jsafe.curves.screen import Progress, Steady, console, steady
from jsafe.curves.sinks import Events


def events(folder):
    """All events of a TensorBoard folder in the order of the files."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return found


def test_a_resumed_session_hides_later_events_and_keeps_its_own_row(tmp_path):
    """TensorBoard drops the events of earlier files whose step is at least that of the START event."""
    first, resumed = Events(tmp_path / "first"), Events(tmp_path / "resumed", 200)
    for step in (100, 200, 300):
        first.write(step, {"episode/return": step / 100})
    first.close()
    resumed.close()
    (start,) = [event.step for event in events(tmp_path / "resumed") if event.HasField("session_log")]
    rows = {event.step: event.summary.value for event in events(tmp_path / "first") if event.HasField("summary")}
    assert [step for step in rows if step < start] == [100, 200]
    assert rows[200][0].simple_value == 2.0


def test_a_reader_that_has_gone_ends_nothing():
    read, write = os.pipe()
    stream = steady(os.fdopen(write, "w"))
    os.close(read)
    shown = console()
    shown.file = stream
    progress = Progress(shown, total=10, plain_seconds=0.0)
    for step in range(10):
        progress.update(step, {"episode/return": 1.0})
        progress.message("a line")
    progress.close()
    assert stream.lost
    stream.finish()


def test_a_full_disk_loses_lines_and_nothing_else():
    class Full(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    disk = Full()
    stream = Steady(disk)
    print("lost", file=stream)
    disk.full = False
    print("kept", file=stream)
    assert disk.getvalue() == "kept\n"
    assert stream.lost
    assert Steady(None).write("nowhere") == 7
    closed = io.StringIO()
    closed.close()
    print("lost", file=Steady(closed), flush=True)


def test_an_old_terminal_gets_the_letters_it_has():
    raw = io.BytesIO()
    stream = steady(io.TextIOWrapper(raw, encoding="ascii"))
    print("3 ± 1 ┏━┓ ü", file=stream, flush=True)
    assert raw.getvalue() == b"3 +- 1 +-+ ?\n"
    assert steady(stream) is stream


def test_a_row_that_fails_half_way_is_cut_off_and_written_later(tmp_path, monkeypatch):
    table = CsvTable(tmp_path / "progress.csv")
    table.append({"iteration": 1, "loss": 0.1})
    whole = table.path.read_text()

    class Half(io.TextIOWrapper):
        def write(self, text):
            super().write(text[: len(text) // 2])
            self.flush()
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda path, *_, **__: Half(io.FileIO(path, "a")))
        with pytest.raises(OSError, match="No space left"):
            table.append({"iteration": 2, "loss": 0.2})
    assert table.path.read_text() == whole
    table.append({"iteration": 3, "loss": 0.3})
    assert [row["iteration"] for row in read_csv(table.path)] == ["1", "2", "3"]


def test_new_metrics_gain_a_column_and_old_names_are_read(tmp_path):
    table = CsvTable(tmp_path / "progress.csv")
    table.append({"iteration": 1, "loss": 0.1})
    table.append({"iteration": 2, "loss": 0.2, "rule/limit": 7})
    columns = read_progress(table.path)
    np.testing.assert_array_equal(columns["loss"], [0.1, 0.2])
    np.testing.assert_array_equal(columns["cost/0/limit_per_step"], [np.nan, 7])


def test_the_line_on_a_terminal_shows_compiling_and_then_the_time_left():
    text = io.StringIO()
    progress = Progress(Console(file=text, force_terminal=True, width=200), 1000)
    assert progress._text() == "0/1000 steps, first batch and compiling"
    progress.update(100, {"cost/0/multiplier": 0.5})
    progress._recent[0] = (progress._recent[0][0] - 10, 0)
    progress.update(100, {})
    progress.close()
    assert "100/1000 steps, 10 steps/s, multiplier 0.5, 1:30 min left" in text.getvalue()


def write(path, text):
    path.write_text(text)
    return CsvTable(path)


def test_damaged_rows_are_put_aside(tmp_path):
    path = tmp_path / "progress.csv"
    table = write(path, "iteration,env_steps,a\n1,10,0.5\n2,x\x00y,0.5\n3,30\n4,40,0.5,9\n5,50,\n6,60,0.5\n7,7")
    assert table.continue_after(5) == 3
    assert path.read_text() == "iteration,env_steps,a\n1,10,0.5\n5,50,\n"
    assert "x\x00y" in (tmp_path / "progress.csv.damaged").read_text()
    table.append({"iteration": 6, "env_steps": 60, "b": 1.0})
    assert list(read_progress(path)["env_steps"]) == [10, 50, 60]
    table = write(path, "iteration,env_steps,a\n1,10,0.5\n")
    table.continue_after(5)
    table.append({"iteration": 2, "env_steps": 20, "a": 0.5, "b": 1.0})
    known, whole = table.state_dict()["columns"], path.read_text()
    assert known == ["iteration", "env_steps", "a", "b"]
    for line in ("iteration,env-steps,a,b", "iteration,env_stepsla,b", "it,ration,env_steps,a,b", "\x00" * 23):
        path.write_text(whole.replace("iteration,env_steps,a,b", line))
        assert CsvTable(path).continue_after(5, known) == 1
        assert path.read_text() == whole
    more = "iteration,env_steps,a,b,c\n1,10,0.5,1,2\n"
    fewer = "iteration,a,env_steps\n1,0.5,10\n"
    for text in (more, fewer):  # columns that came after the checkpoint; a curve that began anew
        assert write(path, text).continue_after(5, known) == 0
        assert path.read_text() == text
    path.write_bytes(b"\xff\xfe\x00garbage\n1,2,3\n")
    assert CsvTable(path).continue_after(5) == 1
    assert not path.exists()
    path.write_text("iteration,env_steps\nx,y\n")
    with pytest.raises(ValueError, match="holds damaged rows only"):
        read_progress(path)
