"""Train a small Stanza tagger and constituency parser on the embedded grammar: no network, no Java, one CPU thread.

The result is a Stanza `model_dir` like a downloaded one. It knows the captions of its own grammar, not English.
"""

import hashlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import eq
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from vlalign.annotate.phrases.isolation import quiet, reproducible
from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.annotate.phrases.stanza_models import PARSING, write_model_manifest
from vlalign.annotate.phrases.treebank import (
    Brackets,
    bracket_f1,
    brackets,
    split_trees,
    write_brackets,
    write_conllu,
)
from vlalign.annotate.phrases.trees import Constituent, Parse, tree_constituents
from vlalign.data.scenes.grammar import Tree, leaves, sample_trees, text
from vlalign.files import atomic_write, write_json

logger = logging.getLogger(__name__)
PACKAGE = "tiny"
LANGUAGE = "en"
VECTOR_WIDTH = 32
TAGGER_STEPS_PER_EPOCH = 15
TAGGER_OPTIONS = (
    "--hidden_dim 48 --char_hidden_dim 32 --char_emb_dim 16 --word_emb_dim 24 --transformed_dim 24 --tag_emb_dim 16 "
    "--deep_biaff_hidden_dim 48 --composite_deep_biaff_hidden_dim 16 --num_layers 1 --dropout 0.1 --word_dropout 0.05 "
    "--batch_size 100 --lr 0.01 --augment_nopunct 0 --fix_eval_interval"
)
CONSTITUENCY_OPTIONS = (
    "--hidden_size 64 --delta_embedding_dim 24 --tag_embedding_dim 20 --transition_embedding_dim 12 "
    "--transition_hidden_size 16 --num_lstm_layers 1 --word_dropout 0.1 --predict_dropout 0.1 --lstm_input_dropout 0.1 "
    "--optim adamw --learning_rate 0.008 --learning_rate_factor 0.5 --learning_rate_patience 0 "
    "--learning_rate_cooldown 1 --learning_rate_min_lr 0.0003 --train_batch_size 30 --eval_batch_size 200 "
    "--no_multistage --no_checkpoint"
)


def train_parser(
    output_dir: str | Path, *, seed: int = 0, trees: int = 1200, epochs: int = 5, classes: int = 20
) -> None:
    """Train on distinct trees of the embedded grammar with this many object classes; see `train_on_trees`."""
    train_on_trees(sample_trees(trees, seed=seed, classes=classes), output_dir, seed=seed, epochs=epochs)


def train_on_trees(trees: Sequence[Tree], output_dir: str | Path, *, seed: int, epochs: int) -> None:
    """Train a tagger and a parser on three quarters of `trees` and write a Stanza model folder with its manifest.

    The manifest holds labelled bracket F1 and tag accuracy, both in percent, on the sixth of the trees that was set
    aside, parsed from their plain text. Equal arguments give equal files.
    Raises VlalignError when there are too few trees.
    """
    treebank = split_trees(trees, seed=seed)
    with quiet(), reproducible(), tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, some in (("train", treebank.train), ("development", treebank.development)):
            write_brackets(work / f"{name}.mrg", some)
            write_conllu(work / f"{name}.conllu", some)
        _make_vectors(work, treebank.train, seed=seed)
        _train_tagger(work, seed=seed, steps=TAGGER_STEPS_PER_EPOCH * epochs)
        _train_constituency(work, seed=seed, epochs=epochs)
        _publish(work, Path(output_dir))
        _measure(Path(output_dir), treebank.held_out)


def _model(root: Path, processor: str) -> Path:
    return root / LANGUAGE / processor / f"{PACKAGE}.pt"


def _make_vectors(work: Path, trees: Sequence[Tree], *, seed: int) -> None:
    """Random word vectors in Stanza's own file: the tagger and the parser both insist on a pretrained file."""
    from stanza.models.common.pretrain import Pretrain, PretrainedWordVocab
    from stanza.models.common.vocab import VOCAB_PREFIX

    words = sorted({word.lower() for tree in trees for _, word in leaves(tree)})
    draw = torch.Generator().manual_seed(seed)
    vectors = 0.3 * torch.randn(len(VOCAB_PREFIX) + len(words), VECTOR_WIDTH, generator=draw)
    vectors[: len(VOCAB_PREFIX)] = 0
    pretrain = Pretrain(str(_model(work, "pretrain")))
    pretrain._vocab, pretrain._emb = PretrainedWordVocab(words), vectors
    pretrain.save(pretrain.filename)


def _options(work: Path, processor: str, suffix: str, *, seed: int) -> list[str]:
    """What Stanza's two trainers call alike."""
    target = _model(work, processor)
    return [
        *("--mode", "train", "--lang", LANGUAGE, "--shorthand", f"{LANGUAGE}_{PACKAGE}", "--seed", str(seed), "--cpu"),
        *("--train_file", str(work / f"train.{suffix}"), "--eval_file", str(work / f"development.{suffix}")),
        *("--wordvec_pretrain_file", str(_model(work, "pretrain"))),
        *("--save_dir", str(target.parent), "--save_name", target.name),
    ]


def _train_tagger(work: Path, *, seed: int, steps: int) -> None:
    from stanza.models import tagger

    schedule = ["--max_steps", str(steps), "--eval_interval", str(steps // 2)]
    tagger.main([*_options(work, "pos", "conllu", seed=seed), *schedule, *TAGGER_OPTIONS.split()])


def _train_constituency(work: Path, *, seed: int, epochs: int) -> None:
    """Train on the tagger's own tags, as the parser will meet them.

    Stanza's `main` would reach for the network to find a tagger, so its parts are called one by one.
    """
    from stanza.models import constituency_parser
    from stanza.models.common import utils
    from stanza.models.constituency import parser_training

    options = _options(work, "constituency", "mrg", seed=seed)
    options += ["--retag_package", f"{LANGUAGE}_{PACKAGE}", "--retag_method", "xpos", "--epochs", str(epochs)]
    arguments = constituency_parser.parse_args([*options, *CONSTITUENCY_OPTIONS.split()])
    arguments["epoch_size"] = None  # an epoch is every tree once; no option says so
    utils.set_random_seed(seed)
    with mock.patch.object(parser_training, "EvaluateParser", _BracketScorer):
        parser_training.train(arguments, None, [_tagging_pipeline(work)])


def _tagging_pipeline(work: Path) -> Any:
    import stanza

    write_json(work / "resources.json", {})
    return stanza.Pipeline(
        LANGUAGE,
        model_dir=str(work),
        processors="tokenize,pos",
        tokenize_pretokenized=True,
        pos_model_path=str(_model(work, "pos")),
        pos_pretrain_path=str(_model(work, "pretrain")),
        download_method=None,
        allow_unknown_language=True,
        use_gpu=False,
        verbose=False,
        pos_batch_size=1000,
    )


class _BracketScorer:
    """Stands in for Stanza's scorer, which starts a Java server; one scorer is one context of a training run."""

    kbestF1 = None
    treeF1: tuple[float, ...] = ()

    def __init__(self, kbest: int | None = None) -> None:
        self.f1 = 0.0

    def __enter__(self) -> "_BracketScorer":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def HasField(self, name: str) -> bool:  # noqa: N802
        return False

    def process(self, results: Iterable[Any]) -> "_BracketScorer":
        """Score Stanza's ParseResults; the answer is read from `f1`, a share as Stanza expects."""
        pairs = [(_tally(tree_constituents(r.gold)), _tally(tree_constituents(r.predictions[0].tree))) for r in results]
        self.f1 = bracket_f1(pairs) / 100
        logger.info("bracket F1 on %d development trees: %.2f %%", len(pairs), 100 * self.f1)
        return self


def _tally(constituents: Iterable[Constituent]) -> Brackets:
    return Counter((node.label, node.first, node.last) for node in constituents)


def _publish(work: Path, output_dir: Path) -> None:
    """Move the models to `output_dir` with their training paths taken out, and list them as Stanza's own folders do."""
    checksums = {}
    for processor in ("pretrain", *PARSING):
        with atomic_write(_model(output_dir, processor)) as temporary:
            found = torch.load(_model(work, processor), weights_only=True)
            stream = io.BytesIO()  # a name on disk would become part of the file
            torch.save(_strip(found, str(work)), stream)
            temporary.write_bytes(stream.getvalue())
            checksums[processor] = hashlib.md5(temporary.read_bytes(), usedforsecurity=False).hexdigest()
    needs = [{"model": "pretrain", "package": PACKAGE}]
    entries = {name: {PACKAGE: {"md5": checksums[name], "dependencies": needs}} for name in PARSING}
    entries["pretrain"] = {PACKAGE: {"md5": checksums["pretrain"]}}
    default = dict.fromkeys(PARSING, PACKAGE)
    language = {"lang_name": "English", "packages": {"default": default}, "tokenize": {}, **entries}
    write_json(output_dir / "resources.json", {LANGUAGE: language})


def _strip(value: Any, folder: str) -> Any:
    """A checkpoint in which paths below a folder of this machine are bare names."""
    if isinstance(value, str) and value.startswith(folder):
        return Path(value).name
    if isinstance(value, dict):
        return type(value)((key, _strip(item, folder)) for key, item in value.items())
    return value


def _measure(model_dir: Path, held_out: Sequence[Tree]) -> None:
    """Parse the held-out trees' plain text as any caption is parsed, and write the scores into the manifest."""
    model: dict[str, Any] = {"language": LANGUAGE, "packages": dict.fromkeys(PARSING, PACKAGE), "source": "train"}
    write_model_manifest(model_dir, **model)
    parses = CaptionParser(model_dir, device="cpu").parse([text(tree) for tree in held_out])
    f1 = bracket_f1((brackets(tree), _tally(parse.constituents)) for tree, parse in zip(held_out, parses, strict=True))
    accuracy = _tag_accuracy(held_out, parses)
    measured = {"trees": len(held_out), "labelled_f1": round(f1, 3), "tag_accuracy": round(accuracy, 3)}
    write_model_manifest(model_dir, **model, held_out=measured)


def _tag_accuracy(trees: Sequence[Tree], parses: Sequence[Parse]) -> float:
    """Share of words in percent that get their own tag; a caption that was cut into other words counts as wrong."""
    right = total = 0
    for tree, parse in zip(trees, parses, strict=True):
        gold = leaves(tree)
        found = [(word.tag, word.text) for word in parse.words]
        total += len(gold)
        right += sum(map(eq, gold, found)) if len(gold) == len(found) else 0
    return 100.0 * right / total
