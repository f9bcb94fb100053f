"""What a user permits or chooses when files are read; nothing here changes how an ordinary file is read."""

from dataclasses import dataclass, field

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
    strict_phi: bool = field(
        default=False, metadata={"help": "Refuse images that may show the patient's name in their pixels."}
    )
    max_gib: float = field(default=4.0, metadata={"help": "Most memory (GiB) that the voxels of one image may take."})

    @property
    def max_bytes(self) -> int:
        """`max_gib` in bytes."""
        return int(self.max_gib * GIB)


DEFAULT = ReadOptions()
