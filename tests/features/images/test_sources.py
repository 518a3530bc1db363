"""Images that lie in archives, HDF5 files and lists."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.datasets.folders import find_images
from features.datasets.reading.walking import image_files
from features.errors import DatasetError, UnreadableImage
from features.images.decoding import load_pixels
from features.images.sources.files import file_digest, open_source, read_file
from tests.pictures import image_bytes

PATHS = (
    "train/melanoma/1.jpg",
    "train/nevus/2.png",
    "valid/melanoma/3.jpg",
    "valid/nevus/é.jpg",
)
OTHERS = ("README.txt", "__MACOSX/train/._1.jpg", "train/melanoma/.hidden.jpg")


def contents() -> dict[str, bytes]:
    found = {path: image_bytes(at) for at, path in enumerate(PATHS)}
    return found | dict.fromkeys(OTHERS, b"something else")


def zipped(file: Path, **more: bytes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**contents(), **more}.items():
            archive.writestr(name, data)


def tarred(file: Path, files: dict[str, bytes] | None = None) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in (contents() if files is None else files).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    pack = {".gz": gzip.compress, ".tgz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    file.write_bytes(pack.get(file.suffix, bytes)(plain.getvalue()))


@pytest.mark.parametrize(
    "name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "no-ending"]
)
def test_an_archive_is_read_like_the_folder_that_it_holds(tmp_path: Path, name: str) -> None:
    folder, archive = tmp_path / "folder", tmp_path / name
    for path, data in contents().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (zipped if name.endswith("zip") else tarred)(archive)
    expected, found = find_images(folder), find_images(archive)
    assert [(each.path, each.label, each.split) for each in found.items] == [
        (each.path, each.label, each.split) for each in expected.items
    ]
    assert found.ignored == expected.ignored
    assert [path.relative_to(archive).as_posix() for path in image_files(archive)] == sorted(PATHS)
    with ThreadPoolExecutor(8) as pool:
        paths = [found.root / item.path for item in found.items] * 20
        for path, data in zip(paths, pool.map(read_file, paths), strict=True):
            assert data == contents()[path.relative_to(archive).as_posix()]
    some = found.root / PATHS[0]
    assert file_digest(some) == file_digest(folder / PATHS[0])
    np.testing.assert_array_equal(load_pixels(some, 32), load_pixels(folder / PATHS[0], 32))
    with pytest.raises(UnreadableImage, match="no such file"):
        read_file(archive / "train/none.jpg")


def test_several_sources_are_one_data_set(tmp_path: Path) -> None:
    zipped(tmp_path / "first.zip")
    (tmp_path / "more/train/nevus").mkdir(parents=True)
    (tmp_path / "more/train/nevus/9.jpg").write_bytes(image_bytes(9))
    found = find_images([tmp_path / "first.zip", tmp_path / "more"])
    assert len(found.items) == len(PATHS) + 1
    for item in found.items:
        load_pixels(found.root / item.path, 16)


def test_an_archive_s_own_name_tells_its_split(tmp_path: Path) -> None:
    archive = tmp_path / "ISIC-2017_Validation_Data.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("ISIC_1.jpg", image_bytes(1))
    assert [item.split for item in find_images(archive).items] == ["valid"]


def test_a_drawn_archive_stays_marked(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", **{"SYNTHETIC.txt": b"drawn"})
    assert find_images(tmp_path / "a.zip").synthetic


def backslashes(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = "train\\nevus\\1.jpg"
        info.create_system = 0
        archive.writestr(info, image_bytes(1))


def test_backslashes_of_old_programs_are_slashes(tmp_path: Path) -> None:
    backslashes(tmp_path / "a.zip")
    (item,) = find_images(tmp_path / "a.zip").items
    assert (item.path, item.label, item.split) == ("train/nevus/1.jpg", "nevus", "train")
    assert read_file(tmp_path / "a.zip" / item.path) == image_bytes(1)


def zip_named(name: str) -> Callable[[Path], None]:
    return lambda file: zipped(file, **{name: b"x"})


def tar_of(info: tarfile.TarInfo) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        with tarfile.open(file, "w") as archive:
            archive.addfile(info)

    return write


def named(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_link(file: Path) -> None:
    info = zipfile.ZipInfo("link.jpg")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def zip_bomb(file: Path) -> None:
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("black.bmp", "w", force_zip64=True) as member,
    ):
        for _ in range(1100):
            member.write(bytes(1 << 20))


def overlapping(file: Path) -> None:
    """Every file is the same bytes, as in Fifield's bombs."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.jpg", image_bytes(1))
        first = archive.infolist()[0]
        for number in range(1, 5):
            again = zipfile.ZipInfo(f"{number}.jpg")
            again.CRC, again.file_size = first.CRC, first.file_size
            again.compress_size, again.header_offset = first.compress_size, 0
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again


def gzip_bomb(file: Path) -> None:
    with gzip.open(file, "wb") as packed:
        packed.write(named("0.bmp").tobuf() + bytes(1 << 20))
        for _ in range(1100):
            packed.write(bytes(1 << 20))


def encrypted(file: Path) -> None:
    zipped(file)
    data = bytearray(file.read_bytes())
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        data[place + 8] |= 1
    file.write_bytes(data)


def twice(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("1.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("1.jpg", b"two")


def cut(file: Path) -> None:
    zipped(file)
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.zip", zip_named("../outside.jpg"), "leads out of the archive"),
        ("a.zip", zip_named("train/../../outside.jpg"), "leads out of the archive"),
        ("a.zip", zip_named("..\\outside.jpg"), "leads out of the archive"),
        ("a.zip", zip_named("/etc/passwd.jpg"), "leads out of the archive"),
        ("a.zip", zip_named("C:\\1.jpg"), "leads out of the archive"),
        ("a.tar", tar_of(named("../outside.jpg")), "leads out of the archive"),
        ("a.tar", tar_of(named("/outside.jpg")), "leads out of the archive"),
        ("a.tar", tar_of(named("1.jpg", tarfile.SYMTYPE, "/etc/passwd")), "holds a link"),
        ("a.tar", tar_of(named("1.jpg", tarfile.LNKTYPE, "2.jpg")), "holds a link"),
        ("a.tar", tar_of(named("1.jpg", tarfile.FIFOTYPE)), "no ordinary file"),
        ("a.tar", tar_of(named("1.jpg", tarfile.CHRTYPE)), "no ordinary file"),
        ("a.zip", zip_link, "holds a link"),
        ("a.zip", zip_bomb, "as no images are"),
        ("a.zip", overlapping, "lie upon each other"),
        ("a.tar.gz", gzip_bomb, "as no images are"),
        ("a.zip", encrypted, "is encrypted"),
        ("a.zip", twice, "two files of the name"),
        ("a.zip", cut, "damaged archive"),
        ("a.7z", lambda file: file.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(99)), "a 7z archive"),
        ("a.rar", lambda file: file.write_bytes(b"Rar!\x1a\x07\x01\0"), "a RAR archive"),
        ("labels.csv", lambda file: file.write_bytes(b"id,label\n"), "--labels"),
        ("list.txt", lambda file: file.write_bytes(b"\n"), "is empty"),
        (
            "list.txt",
            lambda file: file.write_bytes(b"none.jpg\n"),
            "no path in .* \\(1 line\\) is there",
        ),
        ("missing.zip", lambda file: None, "there is no folder"),
        ("pipe.jpg", os.mkfifo, "is not an ordinary file"),
    ],
)
def test_what_could_do_harm_or_is_no_source_is_refused_with_a_sentence(
    tmp_path: Path, name: str, write: Callable[[Path], None], told: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(DatasetError, match=told) as error:
        open_source(tmp_path / name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_damaged_file_in_an_archive_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("1.jpg", image_bytes(1))
        opened.writestr("2.jpg", image_bytes(2))
    data = bytearray(archive.read_bytes())
    data[300] ^= 255
    archive.write_bytes(data)
    with pytest.raises(UnreadableImage, match="damaged in its archive"):
        read_file(archive / "1.jpg")
    assert read_file(archive / "2.jpg") == image_bytes(2)


def test_an_hdf5_file_of_jpeg_bytes_is_read_by_id(tmp_path: Path) -> None:
    """As ISIC 2024 has them, and three other ways in which bytes are kept."""
    file = tmp_path / "train-image.hdf5"
    data = [image_bytes(number) for number in range(4)]
    with h5py.File(file, "w") as opened:
        opened["ISIC_0015670"] = np.void(data[0])
        opened["ISIC_0015845"] = np.frombuffer(data[1], np.uint8)
        opened.create_dataset("ISIC_1", (), h5py.vlen_dtype(np.uint8))
        opened["ISIC_1"][()] = np.frombuffer(data[2], np.uint8)
        opened["more/ISIC_2.v1"] = np.bytes_(data[3])
    found = find_images(file)
    names = ["ISIC_0015670", "ISIC_0015845", "ISIC_1", "more/ISIC_2.v1"]
    assert [item.path for item in found.items] == names
    assert [read_file(found.root / name) for name in names] == data
    assert file_digest(found.root / names[0])


def test_hdf5_files_of_other_things_are_refused(tmp_path: Path) -> None:
    def refused(write: Callable[[h5py.File], object], told: str) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            write(file)
        with pytest.raises(DatasetError, match=told):
            open_source(tmp_path / "x.h5")

    refused(
        lambda file: file.create_dataset("x", data=np.zeros((2, 8, 8, 3), np.uint8)), "as bytes"
    )
    refused(lambda file: None, "as bytes")
    refused(lambda file: file.attrs.update(format="lesion-features"), "is a feature file")
    refused(lambda file: file.update(x=h5py.ExternalLink("other.h5", "x")), "holds a link")
    refused(lambda file: file.update(x=h5py.SoftLink("/y")), "holds a link")
    (tmp_path / "raw").write_bytes(b"secret")
    refused(
        lambda file: file.create_dataset("x", (6,), np.uint8, external=[(tmp_path / "raw", 0, 6)]),
        "as bytes",
    )


def test_one_image_and_a_list_of_paths(tmp_path: Path) -> None:
    (tmp_path / "images/nevus").mkdir(parents=True)
    paths = [tmp_path / "images/nevus" / name for name in ("a.jpg", "b b.jpg", "no-ending")]
    for number, path in enumerate(paths):
        path.write_bytes(image_bytes(number))
    one = find_images(paths[0])
    assert [one.root / item.path for item in one.items] == [paths[0]]
    lists = {
        "relative.txt": b"images/nevus/a.jpg\r\n\r\nimages/nevus/b b.jpg\nimages/nevus/no-ending",
        "absolute.lst": b"\xef\xbb\xbf" + b"\n".join(map(os.fsencode, paths)),
        "zeros.txt": b"\0".join(map(os.fsencode, paths)) + b"\0",
    }
    for name, text in lists.items():
        (tmp_path / name).write_bytes(text)
        found = find_images(tmp_path / name)
        assert {(found.root / item.path).resolve() for item in found.items} == set(paths)
    assert {item.label for item in find_images(tmp_path / "relative.txt").items} == {"nevus"}
    (tmp_path / "gaps.txt").write_bytes(b"images/nevus/gone.jpg\nimages/nevus/a.jpg\n")
    assert len(find_images(tmp_path / "gaps.txt").items) == 2
