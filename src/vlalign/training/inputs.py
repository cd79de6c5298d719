"""What a run reads."""

from dataclasses import dataclass
from pathlib import Path

from vlalign.data.splits import check_place, read_manifest
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import ModelParams, RunParams
from vlalign.records import stamp
from vlalign.training.batches import ROOM, PairedSet, check_parts
from vlalign.training.extras import UnpairedCaptions, UnpairedImages


@dataclass(frozen=True)
class Inputs:
    """Folders: the annotations are needed by the powerset loss alone, what is unpaired by the CS divergence alone,
    `validation` by no loss.
    """

    split: Path
    phrases: Path | None = None
    regions: Path | None = None
    validation: Path | None = None
    unpaired_images: Path | None = None
    unpaired_captions: Path | None = None

    def hashes(self, model: ModelParams) -> dict[str, str]:
        """SHA-256 of the files that the weights depend on: manifests, and pretrained weights where they are a file."""
        folders = {
            "split": self.split,
            "phrases": self.phrases,
            "regions": self.regions,
            "unpaired_images": self.unpaired_images,
            "unpaired_captions": self.unpaired_captions,
        }
        files = {name: path / "manifest.json" for name, path in folders.items() if path}
        if model.pretrained and Path(model.pretrained).is_file():
            files["pretrained"] = Path(model.pretrained)
        missing = [str(path) for path in files.values() if not path.is_file()]
        if missing:
            raise VlalignError(f"{missing[0]} does not exist; make the data first")
        for folder in filter(None, (self.split, self.validation, self.unpaired_images, self.unpaired_captions)):
            check_place(folder, read_manifest(folder))
        return {name: stamp(path)["sha256"] for name, path in files.items()}

    def training_set(self, encoder: DualEncoder, params: RunParams, *, room: int = ROOM) -> PairedSet:
        """The training split with what the objective needs of it.

        Raises VlalignError when a file is missing, there are fewer pairs than in a batch, or the powerset loss is asked
        for without annotations.
        """
        powerset = params.objective.powerset
        if powerset.weight and (self.phrases is None or (self.regions is None and "mask" in powerset.regions.kinds)):
            raise VlalignError("objective.powerset.weight is above 0: give --phrases and --regions")
        used, augment = bool(powerset.weight), params.train.augment
        images = self._unpaired("images", self.unpaired_images, params)
        captions = self._unpaired("captions", self.unpaired_captions, params)
        data = PairedSet(
            self.split,
            encoder,
            phrases=self.phrases if used else None,
            regions=self.regions if used else None,
            phrase_choice=powerset.phrases if used else None,
            region_choice=powerset.regions if used else None,
            augment=augment,
            all_captions=bool(params.objective.cs.weight) and params.objective.cs.captions == "all",
            more_images=UnpairedImages(*images, encoder, augment=augment) if images else None,
            more_captions=UnpairedCaptions(*captions, encoder) if captions else None,
            room=room,
        )
        data.steps_per_epoch(params.train.batch_size)
        check_parts(data)
        return data

    def _unpaired(self, kind: str, folder: Path | None, params: RunParams) -> tuple[Path, int] | None:
        """Where the unpaired data of a run lie, and how many of them come with every batch."""
        cs = params.objective.cs
        count = getattr(cs.unpaired, kind) if cs.weight else 0
        if count and folder is None:
            raise VlalignError(f"objective.cs.unpaired.{kind} is {count}: give --unpaired-{kind}")
        return (folder, count) if count and folder is not None else None

    def validation_set(self, encoder: DualEncoder, *, room: int = ROOM) -> PairedSet | None:
        """Pairs of the validation split, if there is one."""
        return PairedSet(self.validation, encoder, room=room) if self.validation else None
