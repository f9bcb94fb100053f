"""Where the demo keeps a case, and the recipe that every case of it goes through."""

from pathlib import Path

from medxai.core.volume import Case
from medxai.io.read import load_case, read_mask
from medxai.io.write import write_nifti

RECIPE = """\
# CT in Hounsfield units: patient axes, 2 mm, air to soft tissue as 0 to 1, padded to one size.
name: demo_chest_ct
transforms:
  - Orientation: {axcodes: RAS}
  - Spacing: {pixdim: [2.0, 2.0, 2.0], mode: bilinear, padding_mode: border}
  - ScaleIntensityRange: {a_min: -1000, a_max: 200, b_min: 0.0, b_max: 1.0, clip: true}
  - ResizeWithPadOrCrop: {spatial_size: [132, 96, 84]}
"""


def store(case: Case, out: Path) -> str:
    """Write the case's image and lesions; its name."""
    write_nifti(image_of(out, case.id), case.image.data[0].float(), case.image.geometry, intent_name="CT in HU")
    for mask in case.masks.values():
        write_nifti(lesion_of(out, case.id), mask.data.float(), mask.geometry, intent_name="lesion")
    return case.id


def load(out: Path, name: str) -> Case:
    """The case of that name as its files have it."""
    lesion = lesion_of(out, name)
    masks = {"lesion": read_mask(lesion)} if lesion.exists() else {}
    return load_case(image_of(out, name), masks=masks, case_id=name)


def image_of(out: Path, name: str) -> Path:
    """The file of the case's image."""
    return out / "cohort" / f"{name}.nii.gz"


def lesion_of(out: Path, name: str) -> Path:
    """The file of the case's lesions; the healthy have none."""
    return out / "cohort" / f"{name}_lesion.nii.gz"
