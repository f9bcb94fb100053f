"""A process of its own that decodes compressed frames: what a codec does to its memory, it does here.

Reads requests from stdin, each one line of JSON and then `size` bytes, and answers likewise with one line and the raw
array. Run by its path: it imports nothing of medxai.
"""

import json
import sys
import warnings
from typing import Any

LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
LOSSLESS_JPEG = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}


def decode(frame: bytes, facts: dict[str, Any]) -> Any:
    """The pixels of one compressed frame, colour as RGB."""
    if facts["syntax"] in LOSSLESS_JPEG:
        return lossless(frame)
    if facts["syntax"] in LOSSY_JPEG:
        from imagecodecs import jpeg_decode

        if facts["photometric"] == "RGB":
            return jpeg_decode(frame, colorspace="RGB", outcolorspace="RGB")
        return jpeg_decode(frame)
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    array, _ = get_decoder(facts["syntax"]).as_array(
        encapsulate([frame]),
        index=0,
        rows=facts["rows"],
        columns=facts["columns"],
        number_of_frames=1,
        samples_per_pixel=facts["samples"],
        bits_allocated=facts["allocated"],
        bits_stored=facts["stored"],
        pixel_representation=facts["signed"],
        photometric_interpretation=facts["photometric"],
        planar_configuration=0,
        pixel_keyword="PixelData",
    )
    return array


def lossless(frame: bytes) -> Any:
    """The pixels on which libjpeg-turbo and liblj92 agree: the first fills in what is missing and says nothing."""
    from imagecodecs import jpeg_decode, ljpeg_decode

    array, other = jpeg_decode(frame), ljpeg_decode(frame)
    if array.shape != other.shape or (array != other).any():
        raise ValueError("two decoders disagree")
    return array


def main() -> None:
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _limit(int(sys.argv[1]))
    while line := requests.readline():
        facts = json.loads(line)
        frame = requests.read(facts["size"])
        try:
            array = decode(frame, facts)
            body = array.tobytes()
            reply = {"shape": array.shape, "type": array.dtype.str, "size": len(body)}
        except Exception as error:
            body, reply = b"", {"error": f"{type(error).__name__}: {error}"[:300], "size": 0}
        answers.write(json.dumps(reply).encode() + b"\n" + body)
        answers.flush()


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
