import tarfile

import pytest
from own_files import write_json

from vlalign.data.sources.img2dataset import Img2datasetSource
from vlalign.data.sources.shards import ShardsSource
from vlalign.errors import VlalignError


def tars(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        tarfile.open(folder / name, "w").close()


def found(folder, *patterns):
    source = ShardsSource(source="shards", shards=tuple(f"{folder}/{pattern}" for pattern in patterns))
    return [str(path.relative_to(folder)) for path in source.shard_paths()]


def test_braces_give_the_files_that_they_name(tmp_path):
    tars(tmp_path, *(f"{index:05d}.tar" for index in range(8, 13)), "a-1.tar", "b-1.tar")
    assert found(tmp_path, "{00009..00011}.tar") == ["00009.tar", "00010.tar", "00011.tar"]
    assert found(tmp_path, "{b,a}-1.tar", "00008.tar") == ["b-1.tar", "a-1.tar", "00008.tar"]


def test_wildcards_find_files_in_natural_order(tmp_path):
    tars(tmp_path, "x-10.tar", "x-2.tar", "x-1.tar", "x-02.tar", "y-1.tar", "x-1.json")
    assert found(tmp_path, "x-*.tar") == ["x-1.tar", "x-02.tar", "x-2.tar", "x-10.tar"]
    assert found(tmp_path, "{y,x}-?.tar") == ["y-1.tar", "x-1.tar", "x-2.tar"]


def test_wildcards_go_through_folders(tmp_path):
    tars(tmp_path / "10", "b.tar")
    tars(tmp_path / "9" / "deep", "a.tar")
    assert found(tmp_path, "**/*.tar") == ["9/deep/a.tar", "10/b.tar"]


def test_a_file_that_two_patterns_name_is_taken_once(tmp_path):
    tars(tmp_path, "1.tar", "2.tar")
    assert found(tmp_path, "2.tar", "*.tar") == ["2.tar", "1.tar"]


def test_a_name_that_looks_like_a_wildcard_may_be_a_name(tmp_path):
    tars(tmp_path, "a[1].tar")
    assert found(tmp_path, "a[1].tar") == ["a[1].tar"]


def test_shards_that_cannot_be_taken_are_named(tmp_path):
    tars(tmp_path, "1.tar", "3.tar")
    with pytest.raises(
        VlalignError, match=r"3 of 5 shards are missing, first \S*/2\.tar, \S*/4\.tar, \S*/5\.tar; correct"
    ):
        found(tmp_path, "{1..5}.tar")
    with pytest.raises(VlalignError, match=r"none-\*\.tar finds no shard; correct `shards`"):
        found(tmp_path, "1.tar", "none-*.tar")
    with pytest.raises(VlalignError, match=r"shards: the braces of .* do not pair up"):
        found(tmp_path, "{1..5.tar")
    (tmp_path / "4.tar").mkdir()
    with pytest.raises(VlalignError, match=r"1 of 3 shards are missing, first \S*/4\.tar"):
        found(tmp_path, "*.tar")


def test_two_shards_of_one_name_are_named(tmp_path):
    tars(tmp_path / "a", "0.tar", "1.tar")
    tars(tmp_path / "b", "1.tar")
    with pytest.raises(VlalignError, match=r"a/1\.tar and \S*b/1\.tar have the same name; rename"):
        found(tmp_path, "?/*.tar")


def img2dataset(folder):
    return [path.name for path in Img2datasetSource(source="img2dataset", folder=str(folder)).shard_paths()]


def samples(shard):
    return Img2datasetSource(source="img2dataset", folder=str(shard.parent)).expected(shard)


@pytest.fixture
def fetched(tmp_path):
    for index in (9, 10, 100_000):
        tars(tmp_path, f"{index:05d}.tar")
        (tmp_path / f"{index:05d}.parquet").touch()
        write_json(tmp_path / f"{index:05d}_stats.json", {"count": 100, "successes": index, "status_dict": {}})
    return tmp_path


def test_the_output_of_img2dataset_is_taken_in_order_with_its_counts(fetched):
    assert img2dataset(fetched) == ["00009.tar", "00010.tar", "100000.tar"]
    assert samples(fetched / "00010.tar") == 10


def test_what_img2dataset_has_not_finished_is_refused(fetched):
    for index in (9, 10):
        (fetched / f"{index:05d}_stats.json").unlink()
    with pytest.raises(
        VlalignError, match=r"2 shards without _stats\.json: 00009\.tar, 00010\.tar; let img2dataset finish"
    ):
        img2dataset(fetched)


def test_a_folder_that_img2dataset_still_works_in_is_refused(fetched):
    (fetched / "_tmp").mkdir()
    with pytest.raises(VlalignError, match=r"is not finished, since it has a folder _tmp"):
        img2dataset(fetched)


def test_statistics_without_their_shard_are_named(fetched):
    (fetched / "00010.tar").unlink()
    with pytest.raises(VlalignError, match=r"1 files \*_stats\.json without their shards, first 00010_stats\.json"):
        img2dataset(fetched)


@pytest.mark.parametrize("content", ["{}", "[]", '{"successes": null}', '{"successes": "many"}'])
def test_statistics_without_a_count_are_named(fetched, content):
    (fetched / "00009_stats.json").write_text(content)
    with pytest.raises(VlalignError, match=r"00009_stats\.json has no count `successes`"):
        samples(fetched / "00009.tar")


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"has no \.tar files; run img2dataset with output_format=webdataset"):
        img2dataset(tmp_path)
    with pytest.raises(VlalignError, match="nowhere is not a folder; correct `folder`"):
        img2dataset(tmp_path / "nowhere")
