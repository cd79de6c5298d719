"""Where the workflow keeps what it makes."""

from dataclasses import dataclass
from pathlib import Path

from vlalign.params.choices import Needs


@dataclass(frozen=True)
class Folders:
    """The folders below `root` that belong to one dataset."""

    root: Path
    data: Path
    annotations: Path

    @classmethod
    def of(cls, root: Path, dataset: str) -> "Folders":
        """Those of a dataset in the workflow."""
        return cls(root, root / "data" / dataset, root / "data" / "annotations" / dataset)

    @property
    def parser(self) -> Path:
        """The model that finds phrases."""
        return self.root / "data" / "parser"

    @property
    def cards(self) -> Path:
        """The data sets of cards, each in a folder of its own, whatever dataset is trained on."""
        return self.root / "data" / "benchmarks"

    @property
    def features(self) -> Path:
        """Embeddings that are kept for further benchmarks; nothing depends on them."""
        return self.root / "checkpoints" / "features"

    def towers(self, name: str) -> Path:
        """What frozen towers give of the dataset's splits, each in a folder of its name."""
        return self.root / "data" / "features" / self.data.name / name

    def generated(self, run: str, seed: int) -> Path:
        """The pictures that a run has generated."""
        return self.root / "data" / "generated" / run / f"seed-{seed}"

    def model(self, name: str) -> Path:
        """The results of a model that was not trained here."""
        return self.root / "results" / "models" / name

    def run(self, name: str, seed: int, *, below: str = "results/runs") -> Path:
        """What belongs to a run with one seed: its results, or what else of it lies below another folder."""
        return self.root / below / name / f"seed-{seed}"

    def inputs(self, needs: Needs) -> dict[str, Path]:
        """What a run reads: the folders of its splits and of what its objective needs, by their names in `Inputs`."""
        places = {
            "phrases": self.annotations / "phrases" / "train",
            "regions": self.annotations / "regions" / "train",
            "unpaired_images": self.data / "unpaired" / "images",
            "unpaired_captions": self.data / "unpaired" / "captions",
        }
        needed = {name: places[name] for name in needs.folders}
        return {"split": self.data / "train", "validation": self.data / "validation"} | needed
