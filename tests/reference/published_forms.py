"""Benchmarks in the layout in which their authors publish them, with any content.

Pictures are arrays by name, and are written in the format of the name's suffix. Each function but `hub_set` returns the
params of a source that reads what it has written; paths count from the folder above the one that it was given.
"""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset
from own_files import write_json
from PIL import Image

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


def encoded(pixels, form="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def write_pictures(folder, pictures):
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sugar_crepe(folder, categories, pictures):
    """categories: by name, items of a picture's name, its caption, and a false one."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = ("filename", "caption", "negative_caption")
    for name, items in categories.items():
        rows = {str(3 * number): dict(zip(keys, item, strict=True)) for number, item in enumerate(items)}
        write_json(folder / f"{name}.json", rows)
    write_pictures(folder / "val2017", pictures)
    return {"source": "sugarcrepe", "annotations": folder.name, "images": f"{folder.name}/val2017"}


def winoground(folder, examples):
    """examples: two captions, and the two pictures of which they are true."""
    rows, pictures = [], {}
    for number, (*captions, first, second) in enumerate(examples):
        names = [f"ex_{number}_img_{place}" for place in (0, 1)]
        pictures |= {f"{names[0]}.png": first, f"{names[1]}.png": second}
        row = {"id": number, "image_0": names[0], "image_1": names[1]}
        row |= {f"caption_{place}": caption for place, caption in enumerate(captions)}
        rows.append(row | {"tag": "Noun", "secondary_tag": "", "num_main_preds": 1, "collapsed_tag": "Object"})
    write_lines(folder / "examples.jsonl", rows)
    write_pictures(folder / "images", pictures)
    return {"source": "winoground", "annotations": f"{folder.name}/examples.jsonl", "images": f"{folder.name}/images"}


def aro(folder, relations, attributions, pictures):
    """relations, attributions: a picture's name, a box in it (x, y, width, height), a true caption and a false one."""
    files = {"relation": relations, "attribution": attributions}
    further = {"relation": {"relation_name": "on"}, "attribution": {"attributes": ["white", "blue"]}}
    folder.mkdir(parents=True, exist_ok=True)
    for kind, items in files.items():
        rows = [
            {"image_id": name.partition(".")[0], "image_path": name, **dict(zip(BOX, box, strict=True))}
            | {"true_caption": caption, "false_caption": negative, **further[kind]}
            for name, box, caption, negative in items
        ]
        write_json(folder / f"visual_genome_{kind}.json", rows)
    write_pictures(folder / "images", pictures)
    return {"source": "aro", "folder": folder.name}


def bivlc(folder, rows):
    """Two files, as the hub has them: pictures are structures of bytes and a path. rows: values by column, of which
    `image` and `negative_image` are bytes, or such structures.
    """
    folder.mkdir(parents=True)
    rows = [
        {key: {"bytes": value, "path": None} if isinstance(value, bytes) else value for key, value in row.items()}
        for row in rows
    ]
    half = (len(rows) + 1) // 2
    pq.write_table(pa.Table.from_pylist(rows[:half]), folder / "test-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(rows[half:]), folder / "test-00001-of-00002.parquet")
    return {"source": "bivlc", "tables": [f"{folder.name}/test-0000{part}-of-00002.parquet" for part in range(2)]}


def coop(annotations, images, splits, pictures):
    """annotations: path of split_zhou_*.json. images: folder of the pictures. splits: train, val and test, each
    [path, label, class name] of its pictures.
    """
    write_pictures(images, pictures)
    write_json(annotations, splits)
    above = annotations.parent.parent
    paths = {"annotations": annotations, "images": images}
    return {"source": "coop", **{key: str(path.relative_to(above)) for key, path in paths.items()}}


def aircraft(folder, variants, splits, pictures):
    """splits: of train, val and test, (number of a picture, variant)."""
    write_pictures(folder / "images", {f"{number}.jpg": pixels for number, pixels in pictures.items()})
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    for split, rows in splits.items():
        lines = "".join(f"{number} {variant}\n" for number, variant in rows)
        (folder / f"images_variant_{split}.txt").write_text(lines)
    return {"source": "fgvc-aircraft", "folder": folder.name}


def urban1k(folder, captions, pictures):
    """captions, pictures: by number."""
    write_pictures(folder / "image", {f"{number}.jpg": pixels for number, pixels in pictures.items()})
    (folder / "caption").mkdir()
    for number, text in captions.items():
        (folder / f"caption/{number}.txt").write_text(text)
    told = {"folder": f"{folder.name}/image", "captions": f"{folder.name}/caption"}
    return {"source": "folder", "labels": "captions", "lines": "first", **told}


def docci(folder, rows, pictures):
    """rows: name of an example, which ends in its split, and a description."""
    lines = [
        {"example_id": name, "split": name.rpartition("_")[0], "image_file": f"{name}.jpg", "description": text}
        for name, text in rows
    ]
    write_lines(folder / "docci_descriptions.jsonlines", lines)
    write_pictures(folder / "images", {f"{name}.jpg": pixels for name, pixels in pictures.items()})
    table, columns = f"{folder.name}/docci_descriptions.jsonlines", {"caption_columns": "description"}
    told = {"image_column": "image_file", "where": {"split": "test"}, **columns}
    return {"source": "table", "table": table, "images": f"{folder.name}/images", **told}


def hub_set(folder, split, samples, *, shard=2):
    """Path in the repository -> content, as CLIP_benchmark's converter writes a split: pictures in WebP.

    samples: pixels, and what else there is of a sample by its suffix. shard: samples in each.
    """
    folder.mkdir(parents=True)
    with webdataset.ShardWriter(f"{folder}/%d.tar", maxcount=shard, verbose=0) as sink:
        for number, (pixels, told) in enumerate(samples):
            sink.write({"__key__": f"s{number:07d}", "webp": encoded(pixels, "WEBP", lossless=True), **told})
    files = {f"{split}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.tar"))}
    return files | {f"{split}/nshards.txt": f"{len(files)}\n".encode()}


def class_lists(names, templates=("a photo of a {c}.",)):
    """Those of a set of classes on the hub, beside its splits."""
    texts = {"classnames.txt": names, "zeroshot_classification_templates.txt": templates}
    return {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in texts.items()}
