"""What a run reads."""

from dataclasses import dataclass
from pathlib import Path

from vlalign.data.shards.split import check_place, read_manifest
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import ModelParams, RunParams
from vlalign.records import stamp
from vlalign.training.data.batches import ROOM, PairedSet, check_parts
from vlalign.training.data.unpaired import UnpairedCaptions, UnpairedImages


@dataclass(frozen=True)
class Inputs:
    """Folders; which of them a run needs is what its objective says, `validation` is needed by none."""

    split: Path
    phrases: Path | None = None
    regions: Path | None = None
    validation: Path | None = None
    unpaired_images: Path | None = None
    unpaired_captions: Path | None = None

    def hashes(self, model: ModelParams) -> dict[str, str]:
        """SHA-256 of the files that the weights depend on: manifests, and pretrained weights where they are a file."""
        files = {name: path / "manifest.json" for name, path in vars(self).items() if path and name != "validation"}
        if model.pretrained and Path(model.pretrained).is_file():
            files["pretrained"] = Path(model.pretrained)
        if missing := [str(path) for path in files.values() if not path.is_file()]:
            raise VlalignError(f"{missing[0]} does not exist; make the data first")
        for folder in filter(None, (self.split, self.validation, self.unpaired_images, self.unpaired_captions)):
            check_place(folder, read_manifest(folder))
        return {name: stamp(path)["sha256"] for name, path in files.items()}

    def training_set(self, encoder: DualEncoder, params: RunParams, *, room: int = ROOM) -> PairedSet:
        """The training split with what the objective needs of it.

        Raises VlalignError when any of that is missing, and when there are fewer pairs than in a batch.
        """
        needs, augment = params.objective.needs, params.train.augment
        needed = {name: folder for name in needs.folders if (folder := getattr(self, name)) is not None}
        if missing := [name for name in needs.folders if name not in needed]:
            raise VlalignError(f"the objective of this run needs more than pairs: give {' and '.join(missing)}")
        images, captions = needed.get("unpaired_images"), needed.get("unpaired_captions")
        data = PairedSet(
            self.split,
            encoder,
            phrases=needed.get("phrases"),
            regions=needed.get("regions"),
            phrase_choice=needs.phrases,
            region_choice=needs.regions,
            augment=augment,
            all_captions=needs.other_captions,
            more_images=UnpairedImages(images, needs.unpaired_images, encoder, augment=augment) if images else None,
            more_captions=UnpairedCaptions(captions, needs.unpaired_captions, encoder) if captions else None,
            room=room,
        )
        data.steps_per_epoch(params.train.batch_size)
        check_parts(data)
        return data

    def validation_set(self, encoder: DualEncoder, *, room: int = ROOM) -> PairedSet | None:
        """Pairs of the validation split, if there is one."""
        return PairedSet(self.validation, encoder, room=room) if self.validation else None
