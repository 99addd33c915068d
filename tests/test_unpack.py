"""Archives: honest ones come out whole, hostile ones not at all."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from maskwatch.errors import OutputError, SourceError
from maskwatch.net.archives import ArchiveLimits, unpack

FILES = {"set/a.jpg": b"picture", "set/a.xml": b"<annotation/>", "set/deep/er/b.txt": b""}
MODES = ("w", "w:gz", "w:bz2", "w:xz")


def tar_info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            tar.addfile(tar_info(name, len(content)), io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def target(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "out"
    folder.mkdir(parents=True)
    return folder


def read_back(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuses(archive: Path, message: str, limits: ArchiveLimits | None = None) -> None:
    """The error, and that nothing was written outside the folder."""
    folder = target(archive.parent)
    before = {path for path in archive.parent.rglob("*") if folder not in path.parents}
    with pytest.raises(SourceError, match=message):
        unpack(archive, folder, limits)
    assert {path for path in archive.parent.rglob("*") if folder not in path.parents} == before
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("mode", MODES)
def test_tar(tmp_path: Path, mode: str) -> None:
    folder, seen = target(tmp_path), []
    info = tar_info("set/empty", kind=tarfile.DIRTYPE)
    assert unpack(write_tar(tmp_path / "x", FILES, mode, info), folder, progress=seen.append) == 3
    assert read_back(folder) == FILES
    assert (folder / "set/empty").is_dir()
    assert seen == [1, 2, 3, 3]


def test_zip(tmp_path: Path) -> None:
    folder = target(tmp_path)
    assert unpack(write_zip(tmp_path / "x", {**FILES, "set/empty/": b""}), folder) == 3
    assert read_back(folder) == FILES
    assert (folder / "set/empty").is_dir()


def test_names_longer_than_a_tar_header(tmp_path: Path) -> None:
    files = {"a" * 90 + "/" + "b" * 200 + ".jpg": b"x", "ä/ö.jpg": b"y"}
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{number}.tar", "w", format=form) as tar:
            for name, content in files.items():
                tar.addfile(tar_info(name, 1), io.BytesIO(content))
        folder = tmp_path / f"out{number}"
        folder.mkdir()
        assert unpack(tmp_path / f"{number}.tar", folder) == 2
        assert read_back(folder) == files


def test_what_macos_and_windows_add(tmp_path: Path) -> None:
    folder = target(tmp_path)
    names = ("__MACOSX/set/._a.jpg", "set/.DS_Store", "set/._a.jpg", "set\\sub\\b.jpg", "./set/c.jpg")
    assert unpack(write_tar(tmp_path / "x", dict.fromkeys(names, b"1")), folder) == 2
    assert read_back(folder) == {"set/sub/b.jpg": b"1", "set/c.jpg": b"1"}


def test_no_attributes_are_kept(tmp_path: Path) -> None:
    info = tar_info("run.sh")
    info.mode, info.uid = 0o6777, 12345
    folder = target(tmp_path)
    unpack(write_tar(tmp_path / "x", {}, "w", info), folder)
    assert not (folder / "run.sh").stat().st_mode & (stat.S_IXUSR | stat.S_ISUID | stat.S_IWOTH)


LEADING_OUT = ("../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil", "..")


@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    refuses(write_tar(tmp_path / "x.tar", {"good": b"1", name: b"2"}), "leads out of the folder")


@pytest.mark.parametrize("name", LEADING_OUT[:5])
def test_names_that_lead_out_of_a_zip(tmp_path: Path, name: str) -> None:
    refuses(write_zip(tmp_path / "x.zip", {name: b"2"}), "leads out of the folder")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is a device"),
        (tarfile.FIFOTYPE, "is a device"),
    ],
)
def test_links_and_devices(tmp_path: Path, kind: bytes, word: str) -> None:
    refuses(write_tar(tmp_path / "x.tar", {}, "w", tar_info("a", kind=kind, link="../../evil")), word)


def test_a_file_through_a_link(tmp_path: Path) -> None:
    link = tar_info("a", kind=tarfile.SYMTYPE, link="/tmp")
    refuses(write_tar(tmp_path / "x.tar", {}, "w", link, tar_info("a/evil")), "is a link")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(info, "../../evil")
    refuses(tmp_path / "x.zip", "is a link")


@pytest.mark.parametrize("mode", MODES)
def test_bombs(tmp_path: Path, mode: str) -> None:
    zeros = {"zeros": b"\0" * (1 << 20)}
    archive = write_tar(tmp_path / "x.tar", zeros, mode)
    refuses(archive, "unpacks to more than", ArchiveLimits(total_bytes=1 << 19))


def test_ratio(tmp_path: Path) -> None:
    limits = ArchiveLimits(ratio=100, ratio_from=1 << 20)
    refuses(write_zip(tmp_path / "x.zip", {"zeros": b"\0" * (2 << 20)}), "100 times its size", limits)
    small = tmp_path / "small"
    small.mkdir()
    assert unpack(write_zip(tmp_path / "y.zip", {"zeros": b"\0" * (1 << 20)}), small, limits) == 1


def test_a_header_that_packs_to_nothing(tmp_path: Path) -> None:
    """An extended header is read into memory whole."""
    info = tar_info("a")
    info.pax_headers = {"comment": "x" * (8 << 20)}
    with tarfile.open(tmp_path / "x.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    assert (tmp_path / "x.tgz").stat().st_size < 20_000
    refuses(tmp_path / "x.tgz", "a header of 8")


def test_a_zip_that_lies_about_its_size(tmp_path: Path) -> None:
    """What counts are the bytes that come out; zipfile stops at the size that the directory states."""
    archive = write_zip(tmp_path / "x.zip", {"zeros": b"\0" * (1 << 20)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1 << 20).to_bytes(4, "little"), (5).to_bytes(4, "little")))
    refuses(archive, "broken archive")


def test_too_many_files(tmp_path: Path) -> None:
    files = {f"{number}": b"" for number in range(4)}
    refuses(write_zip(tmp_path / "x.zip", files), "more than 3 files", ArchiveLimits(files=3))


def test_names_twice(tmp_path: Path) -> None:
    refuses(write_tar(tmp_path / "x.tar", {"a": b"1"}, "w", tar_info("a")), "'a' is in it twice")


def test_a_file_where_a_folder_is_asked_for(tmp_path: Path) -> None:
    refuses(write_tar(tmp_path / "x.tar", {"a": b"1"}, "w", tar_info("a/b")), "'a/b' is in it twice")


def test_encrypted(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    data[6] |= 1  # and in the file's own header
    archive.write_bytes(data)
    refuses(archive, "'a' is encrypted")


@pytest.mark.parametrize("mode", [*MODES, "zip"])
def test_broken(tmp_path: Path, mode: str) -> None:
    files = {"a": bytes(range(256)) * 99}
    good = write_zip(tmp_path / "x", files) if mode == "zip" else write_tar(tmp_path / "x", files, mode)
    data = good.read_bytes()
    good.write_bytes(data[: len(data) // 3])
    refuses(good, "broken archive|cannot be read")


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    for number, write in enumerate((write_zip, lambda path, files: write_tar(path, files, "w:gz"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        archive = write(folder / "x", {"a": bytes(range(256)) * 99})
        data = bytearray(archive.read_bytes())
        data[len(data) // 2] ^= 255
        archive.write_bytes(data)
        refuses(archive, "broken archive|cannot be read")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 50, b"Rar!\x1a\x07\x01\0", b"\x1f\x8b"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    refuses(tmp_path / "x", "neither zip nor tar|broken archive")


def test_missing(tmp_path: Path) -> None:
    refuses(tmp_path / "none.zip", "none.zip: cannot be read")


def test_a_name_that_the_disk_refuses(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        unpack(write_zip(tmp_path / "x", {"a" * 300: b"1"}), target(tmp_path))
