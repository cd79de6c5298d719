"""What a run reads."""

from dataclasses import dataclass
from pathlib import Path

from vlalign.data.shards import fingerprint
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import ModelParams, RunParams
from vlalign.training.batches import PairedSet


@dataclass(frozen=True)
class Inputs:
    """Folders: the annotations are needed by the powerset loss alone, `validation` by no loss."""

    split: Path
    phrases: Path | None = None
    regions: Path | None = None
    validation: Path | None = None

    def hashes(self, model: ModelParams) -> dict[str, str]:
        """SHA-256 of the files that the weights depend on: manifests, and pretrained weights where they are a file."""
        folders = {"split": self.split, "phrases": self.phrases, "regions": self.regions}
        files = {name: path / "manifest.json" for name, path in folders.items() if path}
        if model.pretrained and Path(model.pretrained).is_file():
            files["pretrained"] = Path(model.pretrained)
        missing = [str(path) for path in files.values() if not path.is_file()]
        if missing:
            raise VlalignError(f"{missing[0]} does not exist; make the data first")
        return {name: fingerprint(path)["sha256"] for name, path in files.items()}

    def training_set(self, encoder: DualEncoder, params: RunParams) -> PairedSet:
        """The training split with what the objective needs of it.

        Raises VlalignError when a file is missing, there are fewer pairs than in a batch, or the powerset loss is asked
        for without annotations.
        """
        powerset = params.objective.powerset
        if powerset.weight and (self.phrases is None or self.regions is None):
            raise VlalignError("objective.powerset.weight is above 0: give --phrases and --regions")
        used = bool(powerset.weight)
        data = PairedSet(
            self.split,
            encoder,
            phrases=self.phrases if used else None,
            regions=self.regions if used else None,
            phrase_choice=powerset.phrases,
            region_choice=powerset.regions,
        )
        data.steps_per_epoch(params.train.batch_size)
        return data

    def validation_set(self, encoder: DualEncoder) -> PairedSet | None:
        """Pairs of the validation split, if there is one."""
        return PairedSet(self.validation, encoder) if self.validation else None
