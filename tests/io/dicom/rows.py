"""The DICOM rows of docs/bad_inputs.md: each an input, and what must become of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medxai.io.options import DEFAULT, ReadOptions
from tests.io.dicom import damage, make
from tests.io.dicom.make import GRID, Build, every, moved, one, removed, series, without

Fate = Literal["refused", "told", "accepted"]
SCALED = ReadOptions(gray=True)


@dataclass(frozen=True)
class Row:
    """One input: refused with its code, accepted with a notice of that code, or simply accepted.

    Where `placed`, accepted voxels must lie where the address phantom on `grid` says.
    """

    code: str
    name: str
    fate: Fate
    build: Build
    options: ReadOptions = DEFAULT
    placed: bool = True
    grid: tuple[tuple[float, ...], ...] = tuple(map(tuple, GRID))


def refused(code: str, name: str, build: Build, options: ReadOptions = DEFAULT) -> Row:
    return Row(code, name, "refused", build, options, placed=False)


def told(code: str, name: str, build: Build, options: ReadOptions = DEFAULT, placed: bool = True) -> Row:
    return Row(code, name, "told", build, options, placed)


def accepted(code: str, name: str, build: Build, options: ReadOptions = DEFAULT, placed: bool = True) -> Row:
    return Row(code, name, "accepted", build, options, placed)


ROWS: tuple[Row, ...] = (
    refused("D01", "pixels shorter than the image", series(damage.cut_pixels)),
    refused("D02", "file cut within its pixels", make.edited(series(), lambda b: b[:-20])),
    refused("D02", "a real file cut within its pixels", make.bundled("MR_truncated.dcm")),
    refused("D03", "file cut within its header", make.edited(series(), lambda b: b[:500])),
    refused("D03", "a real file cut within its header", make.bundled("rtplan_truncated.dcm")),
    refused("D04", "frames more than promised", series(damage.longer(140))),
    told("D04", "a few bytes more than promised", series(damage.longer(6))),
    accepted("D04", "one byte of padding", make.bundled("MR_small_padded.dcm"), placed=False),
    refused("D05", "BitsAllocated says 8, the pixels have 16", series(every(BitsAllocated=8, BitsStored=8, HighBit=7))),
    refused("D05", "BitsAllocated says 32, the pixels have 16", series(every(BitsAllocated=32))),
    refused("D06", "no rows", series(every(Rows=0))),
    refused("D06", "no columns", make.single(every(Columns=0))),
    refused("D01", "65535 x 65535 pixels in 70 bytes", series(every(Rows=65535, Columns=65535))),
    refused("D07", "more voxels than permitted", series(), ReadOptions(max_gib=1e-7)),
    refused("D08", "2^31 - 1 frames", series(every(NumberOfFrames=2**31 - 1))),
    refused("D09", "a deflated data set of 128 MB of nothing", make.deflated(make.single(), 128 * 2**20)),
    refused(
        "D10",
        "a codestream of another size",
        series(
            make.compressed(JPEG2000Lossless),
            make.relabelled(JPEG2000Lossless, damage.giant_codestream),
            shape=(64, 64, 3),
        ),
    ),
    refused(
        "D10",
        "a giant codestream, a giant header",
        series(
            make.compressed(JPEG2000Lossless),
            make.relabelled(JPEG2000Lossless, damage.giant_codestream),
            every(Rows=65535, Columns=65535),
            shape=(64, 64, 3),
        ),
    ),
    refused("D11", "a video codec", series(make.relabelled("1.2.840.10008.1.2.4.100", lambda s: bytes(64)))),
    told("D12", "compressed with loss", series(every(LossyImageCompression="01"))),
    refused("D13", "no position", series(without("ImagePositionPatient"))),
    told("D13", "a film without position", make.film(), placed=False),
    refused("D14", "one slice without position", series(without("ImagePositionPatient", which=slice(2, 3)))),
    refused("D15", "no orientation", series(without("ImageOrientationPatient"))),
    refused("D16", "skewed axes", series(every(ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]))),
    told("D16", "axes skewed by rounding", series(every(ImageOrientationPatient=[1, 0, 0, 1e-4, 1, 0]))),
    refused("D17", "another orientation in one slice", series(one(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))),
    refused("D18", "no pixel spacing", series(without("PixelSpacing"))),
    refused("D18", "zero pixel spacing", series(every(PixelSpacing=[0, 1]))),
    refused("D18", "negative pixel spacing", series(every(PixelSpacing=[1, -1]))),
    told(
        "D18",
        "a film with the spacing of its detector",
        make.film(PixelSpacing=None, ImagerPixelSpacing=[1, 1]),
        placed=False,
    ),
    refused("D19", "another pixel spacing in one slice", series(one(PixelSpacing=[0.8, 0.7]))),
    refused("D20", "two missing slices", series(removed(2, 4), shape=(7, 5, 12))),
    told("D20", "two missing slices, permitted", series(removed(2, 4), shape=(7, 5, 12)), ReadOptions(allow_gaps=True)),
    refused("D21", "uneven slices", series(moved([0, 2.5, 5, 8.2, 11.9, 14]))),
    told(
        "D21",
        "uneven slices, permitted",
        series(moved([0, 2.5, 5, 8.2, 11.9, 14])),
        ReadOptions(resample_irregular=True),
        placed=False,
    ),
    told("D22", "a slice twice", series(damage.twin())),
    refused("D23", "two different slices in one plane", series(damage.twin(PixelData=bytes(70), EchoTime=20))),
    refused("D24", "two series", damage.two_series),
    accepted("D24", "two series, one chosen", damage.two_series, ReadOptions(series="1.2.3.4.5")),
    refused("D25", "a localizer of the same shape", series(one(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))),
    refused("D25", "a slice of another shape", series(damage.tall)),
    refused("D26", "two frames of reference", series(one(FrameOfReferenceUID="1.2.3"))),
    Row("D27", "a tilted gantry", "told", series(grid=np.array(damage.tilted())), grid=damage.tilted()),
    accepted("D28", "InstanceNumber missing", series(without("InstanceNumber"))),
    accepted("D28", "InstanceNumber shuffled", series(damage.shuffled)),
    accepted("D28", "InstanceNumber all 1", series(every(InstanceNumber=1))),
    accepted("D29", "slices named from head to foot", series(damage.backwards)),
    accepted("D30", "a single slice", series(shape=(7, 5, 1))),
    refused("D30", "a single slice without thickness", series(without("SliceThickness"), shape=(7, 5, 1))),
    told("D31", "a film in negative", make.film(PhotometricInterpretation="MONOCHROME1"), placed=False),
    told("D31", "slices called negative", series(every(PhotometricInterpretation="MONOCHROME1"))),
    told("D32", "a display table that inverts", make.film(PresentationLUTShape="INVERSE"), placed=False),
    told("D33", "a modality lookup table", series(damage.lut), placed=False),
    told("D34", "a window of no width", series(every(WindowCenter=40, WindowWidth=0))),
    told("D34", "several windows", series(every(WindowCenter=[40, 300], WindowWidth=[400, 1500]))),
    refused("D35", "rescale slope 0", series(every(RescaleSlope=0))),
    told("D36", "a slope for each slice", series(damage.per_slice)),
    refused("D37", "rescale in some slices", series(without("RescaleSlope", "RescaleIntercept", which=slice(2, 3)))),
    told("D38", "an overlay in the upper bits", series(damage.overlay)),
    refused("D38", "more bits stored than allocated", series(every(BitsStored=17, HighBit=16))),
    told("D39", "signed values not extended", series(damage.unextended)),
    told("D40", "padding kept", series(every(PixelPaddingValue=0))),
    told("D40", "padding as NaN", series(every(PixelPaddingValue=0)), ReadOptions(nan_padding=True)),
    refused("D41", "a palette", damage.palette),
    told("D41", "a palette, permitted", damage.palette, SCALED, placed=False),
    refused("D42", "colour", damage.colour("RGB")),
    told("D42", "colour, permitted", damage.colour("RGB"), SCALED, placed=False),
    told("D42", "YBR, permitted", damage.colour("YBR_FULL"), SCALED, placed=False),
    accepted("D43", "an enhanced object", make.enhanced()),
    refused("D43", "frames without a place", series(every(NumberOfFrames=3))),
    accepted("D44", "an enhanced object, frames shuffled", make.enhanced([3, 0, 5, 1, 4, 2])),
    refused("D44", "an enhanced object of two stacks", make.enhanced(change=damage.two_stacks)),
    refused("D44", "an enhanced object of two times", make.enhanced(change=damage.two_times)),
    refused(
        "D44", "fewer groups than frames", make.enhanced(change=lambda d: d.PerFrameFunctionalGroupsSequence.pop())
    ),
    told("D45", "a dose", make.dose(), placed=False),
    told("D45", "a real dose", make.bundled("rtdose.dcm"), placed=False),
    told("D45", "a real dose, big endian", make.bundled("rtdose_expb.dcm"), placed=False),
    refused("D45", "a dose whose planes start nowhere", make.dose(GridFrameOffsetVector=[7, 8, 9, 10, 11, 12])),
    told("D49", "a key object among the slices", make.beside(series(), "ko", damage.report())),
    refused("D49", "a report instead of an image", make.bundled("test-SR.dcm")),
    refused("D49", "a waveform instead of an image", make.bundled("waveform_ecg.dcm")),
    accepted("D50", "a DICOMDIR", damage.directory(escape=False)),
    refused("D50", "a DICOMDIR that leads out of its folder", damage.directory(escape=True)),
    told(
        "D51",
        "Thumbs.db, AppleDouble and a text",
        make.beside(
            make.beside(make.beside(series(), "Thumbs.db", b"x"), "._1.dcm", b"\0\5\x16\7"), "readme.txt", b"hello"
        ),
    ),
    refused(
        "D52",
        "random bytes marked DICM",
        make.edited(make.single(), lambda b: b[:132] + np.random.default_rng(1).bytes(4000)),
    ),
    refused("D52", "a slice of zeros", make.edited(series(), lambda b: bytes(len(b)))),
    told(
        "D53",
        "no preamble and no meta information",
        make.edited(make.edited(series(shape=(7, 5, 2)), damage.no_preamble, 0), damage.no_preamble, 1),
    ),
    refused(
        "D53",
        "no transfer syntax, and data of none",
        make.edited(make.single(), lambda b: b.replace(b"\2\0\x10\0UI", b"\2\0\x12\0UI")[:-3]),
    ),
    accepted("D54", "big endian", make.bundled("MR_small_bigendian.dcm"), placed=False),
    refused("D55", "explicit data called implicit", make.edited(series(), damage.mixed_syntax)),
    refused("D55", "a real file, implicit data called explicit", make.bundled("SC_rgb_jpeg.dcm")),
    refused("D56", "NumberOfFrames 1A", make.edited(series(), damage.bad_is)),
    refused("D56", "two bytes where the type has four", make.edited(series(), damage.half_a_number)),
    refused("D56", "a real file of bad values", make.bundled("badVR.dcm")),
    refused("D57", "sequences 100 deep", make.edited(series(), damage.before_rows(damage.nested(100)))),
    refused(
        "D57",
        "an element twice",
        make.edited(series(), damage.before_rows(make.raw_element(0x0028, 0x0030, b"DS", 4, b"1\\2 "))),
    ),
    refused("D57", "a stray delimiter", make.edited(series(), damage.before_rows(b"\xfe\xff\x0d\xe0\0\0\0\0"))),
    refused("D58", "4 GB claimed in the meta information", make.edited(series(), damage.meta_bomb)),
    refused(
        "D58",
        "4 GB claimed in the header",
        make.edited(series(), damage.before_rows(make.raw_element(0x0021, 0x1010, b"OB", 0xFFFFFFF0))),
    ),
    refused("D59", "run-length coding of no segments", series(make.relabelled(RLELossless, damage.rle_zero))),
    accepted("D60", "unknown character set", series(damage.hostile)),
    accepted("D60", "control characters in a name", make.edited(series(), damage.bytes_in_names)),
    told("D61", "a script for a modality", series(every(Modality="<script>"))),
    told("D62", "a name burned in", make.film(BurnedInAnnotation="YES"), placed=False),
    refused(
        "D62", "a name burned in, not permitted", make.film(BurnedInAnnotation="YES"), ReadOptions(strict_phi=True)
    ),
    told("D62", "an ultrasound that does not say", make.single(every(Modality="US")), placed=False),
    told("D63", "folders, and a link that loops", damage.big_series),
    told("D65", "a Windows program before the data", make.edited(series(), lambda b: b"MZ" + b[2:])),
    accepted("D54", "JPEG 2000", series(make.compressed(JPEG2000Lossless), shape=(64, 40, 3)), placed=False),
    accepted("D54", "JPEG-LS", series(make.compressed(JPEGLSLossless), shape=(64, 40, 3)), placed=False),
    accepted("D54", "run-length coding", series(make.compressed(RLELossless)), placed=True),
)
