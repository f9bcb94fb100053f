"""Every target by name: `from medxai.targets import FinerScore`; and `Target`, what one of your own has to do."""

from medxai.core.target import *  # noqa: F403 - another door to the same names
from medxai.core.target import __all__  # noqa: F401
