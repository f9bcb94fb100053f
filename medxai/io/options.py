"""What a user permits or chooses when files are read; nothing here changes how an ordinary file is read."""

from dataclasses import dataclass, field
from typing import Literal

from medxai.errors import UsageError

GIB = 2**30


@dataclass(frozen=True)
class ReadOptions:
    """Choices and permissions of one reading; each field is also the flag of that name on the command line."""

    series: str | None = field(
        default=None, metadata={"help": "DICOM series to read: its UID, or the key that `medxai inspect` lists."}
    )
    allow_gaps: bool = field(default=False, metadata={"help": "Fill missing DICOM slices with NaN."})
    resample_irregular: bool = field(
        default=False, metadata={"help": "Interpolate unevenly spaced DICOM slices to even steps."}
    )
    gray: bool = field(default=False, metadata={"help": "Turn a colour image into its luma."})
    nan_padding: bool = field(default=False, metadata={"help": "Read the padding value of DICOM pixels as NaN."})
    threshold: float | None = field(
        default=None, metadata={"help": "Share from which a voxel of a fractional segmentation is foreground."}
    )
    soft: bool = field(
        default=False, metadata={"help": "Take the values of the annotation as shares from 0 to 1, and score by them."}
    )
    strict_phi: bool = field(
        default=False, metadata={"help": "Refuse images that may show the patient's name in their pixels."}
    )
    affine: Literal["sform", "qform"] | None = field(
        default=None, metadata={"help": "Which of a NIfTI header's two affines to believe where they differ."}
    )
    volume: int | None = field(default=None, metadata={"help": "Which volume of a NIfTI file of several, from 0 on."})
    component: Literal["magnitude", "real", "imaginary", "red", "green", "blue"] | None = field(
        default=None, metadata={"help": "Which part of the complex or colour voxels of a NIfTI file to read."}
    )
    nan: float | None = field(default=None, metadata={"help": "The number that takes the place of NaN and infinity."})
    unplaced: bool = field(
        default=False, metadata={"help": "Take masks and images that state no place in the patient, voxel by voxel."}
    )
    strict_grid: bool = field(default=False, metadata={"help": "Refuse a mask that is not on the grid of its image."})
    other_grid: bool = field(
        default=False, metadata={"help": "Believe the place of a mask of its image's shape that lies elsewhere."}
    )
    max_gib: float = field(default=3.0, metadata={"help": "Most memory (GiB) that the voxels of one image may take."})

    def __post_init__(self) -> None:
        if not self.max_gib > 0:
            raise UsageError("max_gib is a positive amount of memory.", expected="GiB", found=f"{self.max_gib}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError("threshold is a share.", expected="more than 0, at most 1", found=f"{self.threshold}")

    @property
    def max_bytes(self) -> int:
        """`max_gib` in bytes."""
        return int(self.max_gib * GIB)


DEFAULT = ReadOptions()
