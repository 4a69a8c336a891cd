"""Writing files at once or not at all."""

import os
import threading

import pytest

from jsafe.curves.csv_table import table_text, write_whole


def test_a_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "scores.csv"
    write_whole(path, "old")
    write_whole(path, table_text(["a", "b"], [[1, "x,y"]]))
    assert path.read_text() == 'a,b\n1,"x,y"\n'
    write_whole(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    (tmp_path / ".scores.csv.new").mkdir()
    with pytest.raises(OSError, match="scores"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_links_and_pipes_stay(tmp_path):
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("old")
    link.symlink_to(file)
    write_whole(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "told")
    reader.join(timeout=10)
    assert read == ["told"]
    assert pipe.is_fifo()
