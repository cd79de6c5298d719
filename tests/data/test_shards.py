import io
import tarfile

import pytest

from vlalign.data.samples import Sample
from vlalign.data.shards import index
from vlalign.data.shards.tar import BLOCK, groups, write_shard
from vlalign.errors import VlalignError

SAMPLES = [Sample(f"k{index}", b"picture %d" % index, (f"caption {index}",), label=index) for index in range(5)]


@pytest.fixture
def shard(tmp_path):
    write_shard(tmp_path / "0.tar", SAMPLES)
    return tmp_path / "0.tar"


def contents(path):
    data = path.read_bytes()
    return {
        group.key: {suffix: data[offset : offset + size] for suffix, (offset, size) in group.files.items()}
        for group in groups(path)
    }


def test_groups_say_where_every_member_lies(shard):
    assert contents(shard) == {sample.key: sample.members() for sample in SAMPLES}


def test_groups_lie_side_by_side(shard):
    found = list(groups(shard))
    assert [group.start for group in found] == [0, *(group.end for group in found[:-1])]


def add(path, name, content=b"x", **fields):
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for field, value in fields.items():
            setattr(info, field, value)
        if info.isfile():
            path.with_name("content").write_bytes(content)
            with open(path.with_name("content"), "rb") as stream:
                tar.addfile(info, stream)
        else:
            tar.addfile(info)


def test_names_are_cut_as_webdataset_cuts_them(shard):
    for name in ("a.b/c.left.PNG", "a.b/c.txt", "no_suffix", ".hidden", "._mac.png", "folder/.x.png", "./d.png"):
        add(shard, name)
    found = {group.key: set(group.files) for group in groups(shard)}
    assert [key for key, files in found.items() if files][5:] == ["a.b/c", "./d"]
    assert [key for key, files in found.items() if not files] == ["no_suffix", ".hidden", "._mac.png", "folder/.x.png"]
    assert found["a.b/c"] == {"left.png", "txt"}


def test_what_is_no_file_belongs_to_no_sample(shard):
    add(shard, "k9.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    add(shard, "k9.txt", type=tarfile.LNKTYPE, linkname="k0.png")
    add(shard, "k9.d", type=tarfile.DIRTYPE)
    assert [group.key for group in groups(shard) if group.files] == [sample.key for sample in SAMPLES]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_begin_with_their_own_headers(tmp_path, form):
    path, name = tmp_path / "0.tar", "n" * 300
    with tarfile.open(path, "w", format=form) as tar:
        for key in ("a", name, "b"):
            tar.addfile(tarfile.TarInfo(f"{key}.txt"))
    first, second, third = groups(path)
    assert second.key == name
    assert (first.end, second.end) == (second.start, third.start)


@pytest.mark.parametrize("keep", [0, 100, BLOCK, BLOCK + 3, 3 * BLOCK])
def test_a_shard_that_was_cut_is_named(shard, keep):
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(VlalignError, match=r"0\.tar is not a readable tar file"):
        list(groups(shard))


def test_a_shard_that_was_cut_between_two_samples_is_named(shard):
    cut = list(groups(shard))[2].end
    shard.write_bytes(shard.read_bytes()[:cut])
    with pytest.raises(VlalignError, match=f"it is cut off after {cut} bytes"):
        list(groups(shard))


def test_a_damaged_header_is_no_end(shard):
    place, data = list(groups(shard))[2].start, bytearray(shard.read_bytes())
    data[place : place + BLOCK] = b"\xff" * BLOCK
    shard.write_bytes(data)
    with pytest.raises(VlalignError, match=f"something else than a sample behind byte {place}"):
        list(groups(shard))


def test_joined_files_are_no_shard(shard):
    shard.write_bytes(shard.read_bytes() * 2)
    with pytest.raises(VlalignError, match="something else than a sample"):
        list(groups(shard))


def test_compressed_shards_are_refused(shard):
    path = shard.with_name("1.tar")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(shard, "a.png")
    with pytest.raises(VlalignError, match="without compression"):
        list(groups(path))


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"absent\.tar does not exist"):
        list(groups(tmp_path / "absent.tar"))


# Of members, in bytes: round a block of 512.
LENGTHS = {"png": 511, "txt": 512, "json": 513, "cls": 1, "instances.png": 0, "bin": 3000}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["k0", "folder/k.1", "schlüssel", "k" * 120, "p" * 90 + "/" + "k" * 80])
def test_plain_headers_are_read_as_tarfile_reads_them(form, key):
    """Contents of all lengths round a block, in the order in which they stand there."""
    if form == tarfile.USTAR_FORMAT and len(key) == 120:
        pytest.skip("this form has no names of 120 characters without a folder")
    stream = io.BytesIO()
    contents = {suffix: bytes([number]) * length for number, (suffix, length) in enumerate(LENGTHS.items())}
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for suffix, content in [*contents.items(), ("PNG", b"twice")]:
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    found = index._members(stream.getvalue())
    assert found == index._all_members(stream.getvalue())
    assert list(found.values()) == list(contents.values())
