"""Streams, csv and TensorBoard as a run leaves them behind: broken pipes, damaged rows, resumed sessions."""

import io
import os
import struct

import pytest

from jsafe.curves.csv_table import CsvTable, read_progress
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
    path.write_bytes(b"\xff\xfe\x00garbage\n1,2,3\n")
    assert CsvTable(path).continue_after(5) == 1
    assert not path.exists()
    path.write_text("iteration,env_steps\nx,y\n")
    with pytest.raises(ValueError, match="holds damaged rows only"):
        read_progress(path)
