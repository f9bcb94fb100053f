"""What `--target` may say."""

from medxai.core.target import ClassScore, ContrastScore, GroupScore, MarginScore, RegionScore, SignedScore, Target
from medxai.errors import TargetError

GRAMMAR = (
    "3 (class 3), group:1,4 (sum of classes), contrast:3/1,2 (class 3 against 1 and 2), margin:3 (class 3 against the "
    "runner-up), region:3 (where class 3 wins in a segmentation), signed:+ or signed:- (a head with one output)"
)


def parse_target(text: str) -> Target:
    """The target that `text` names; see GRAMMAR. Raises TargetError."""
    kind, colon, rest = text.partition(":")
    try:
        match kind if colon else "class":
            case "class":
                return ClassScore(int(rest or kind))
            case "group":
                return GroupScore(_numbers(rest))
            case "contrast":
                index, _, references = rest.partition("/")
                return ContrastScore(int(index), _numbers(references))
            case "margin":
                return MarginScore(int(rest))
            case "region":
                return RegionScore(int(rest))
            case "signed":
                return SignedScore({"+": 1, "-": -1}[rest])
    except (ValueError, KeyError) as error:
        raise TargetError("This target cannot be read.", expected=GRAMMAR, found=repr(text)) from error
    raise TargetError("This target cannot be read.", expected=GRAMMAR, found=repr(text))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
