"""Tar archives: images read where they lie, and what is damaged."""

import io
import tarfile

import pytest

from data_processing.images import archives, image_files
from tests.tar_files import archive, image


def test_a_damaged_archive(tmp_path):
    whole = tmp_path / "n02084071.tar"
    archive(whole, {f"{k}.JPEG": image(k) * 20 for k in range(9)})
    cut = tmp_path / "n02121620.tar"
    cut.write_bytes(whole.read_bytes()[:60_000])
    names = archives.names(cut)
    assert 0 < len(names) < 9
    with pytest.raises(image_files.ImageError, match="n02121620.tar is truncated"):
        archives.read_file(tmp_path, f"n02121620/{names[-1]}", 10**6)
    assert archives.read_file(tmp_path, f"n02121620/{names[0]}", 10**6) == image(0) * 20
    (tmp_path / "n00000001.tar").write_text("no archive")
    with pytest.raises(archives.ArchiveError, match="n00000001.tar: no tar archive"):
        archives.names(tmp_path / "n00000001.tar")


def with_damaged_header(data, name, by):
    """The bytes of an archive with a member's header, one block, overwritten."""
    at = data.index(name.encode() + b"\0") // 512 * 512
    return data[:at] + (by * 512)[:512] + data[at + 512 :]


@pytest.mark.parametrize("by", [b"X", b"\0"], ids=["overwritten", "zeroed"])
@pytest.mark.parametrize("lost", [0, 3, 8])
def test_a_damaged_header_loses_one_member(tmp_path, caplog, by, lost):
    expected = {f"{k}.JPEG": image(k) for k in range(9)}
    place = tmp_path / "n02084071.tar"
    archive(place, expected)
    assert archives.names(place) == sorted(expected) and str(place) not in archives.damaged()
    place.write_bytes(with_damaged_header(place.read_bytes(), f"{lost}.JPEG", by))
    del expected[f"{lost}.JPEG"]
    for _ in range(2):
        assert archives.names(place) == sorted(expected)
    for name, data in expected.items():
        assert archives.read_file(tmp_path, f"n02084071/{name}", 10**6) == data
    assert archives.damaged().count(str(place)) == 1
    assert caplog.text.count(f"{place}: damaged (8 files found)") == 1


@pytest.mark.parametrize("by", [b"X", b"\0"], ids=["overwritten", "zeroed"])
def test_damaged_headers_in_archives_of_archives(tmp_path, by):
    expected = {f"n0{n}": {f"n0{n}_{k}.JPEG": image([n, k]) for k in range(5)} for n in range(4)}
    for name, members in expected.items():
        archive(tmp_path / f"{name}.tar", members)
    inner = {f"{name}.tar": (tmp_path / f"{name}.tar").read_bytes() for name in expected}
    inner["n01.tar"] = with_damaged_header(inner["n01.tar"], "n01_2.JPEG", by)
    whole = tmp_path / "train.tar"
    archive(whole, inner)
    del expected["n01"]["n01_2.JPEG"]
    assert archives.names(whole) == sorted(f"{name}/{path}" for name in expected for path in expected[name])
    for name, members in expected.items():
        for path, data in members.items():
            assert archives.read_file(tmp_path, f"train/{name}/{path}", 10**6) == data
    assert f"{whole}: n01.tar" in archives.damaged() and str(whole) not in archives.damaged()
    # Without its own header an archive inside has no name, and its images no class.
    other = tmp_path / "other.tar"
    other.write_bytes(with_damaged_header(whole.read_bytes(), "n02.tar", by))
    del expected["n02"]
    assert archives.names(other) == sorted(f"{name}/{path}" for name in expected for path in expected[name])
    assert {f"{other}: n01.tar", str(other)} <= {*archives.damaged()}


def test_archives_as_other_tools_write_them_are_whole(tmp_path):
    members = {f"{k}.JPEG": image(k) for k in range(3)} | {"\u00fc" * 120 + ".JPEG": image(3)}
    whole = tmp_path / "whole.tar"
    archive(whole, members)
    bare = tmp_path / "no closing blocks.tar"
    with tarfile.open(whole) as file:
        file.getmembers()
        bare.write_bytes(whole.read_bytes()[: file.offset])
    headed = tmp_path / "global header.tar"
    with tarfile.open(headed, "w", pax_headers={"comment": "of git archive"}) as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    for place in (whole, bare, headed):
        assert archives.names(place) == sorted(members)
        assert str(place) not in archives.damaged()
    # Of a member with a long name, one header of two.
    damaged = tmp_path / "damaged.tar"
    archive(damaged, {"first.JPEG": image(4), "\u00fc" * 120 + ".JPEG": image(3)} | members)
    with tarfile.open(damaged) as file:
        at = file.getmembers()[1].offset_data - 512
    damaged.write_bytes(damaged.read_bytes()[:at] + b"X" * 512 + damaged.read_bytes()[at + 512 :])
    assert (
        archives.names(damaged) == ["0.JPEG", "1.JPEG", "2.JPEG", "first.JPEG"] and str(damaged) in archives.damaged()
    )
