"""The short names that users import."""

import pytest

import medxai
from medxai import catalog, methods, targets
from medxai.core import target


def test_every_public_name_exists():
    assert all(getattr(medxai, name) is not None for name in medxai.__all__)


def test_every_method_of_the_catalogue_has_its_name_in_methods():
    assert dir(methods) == sorted(catalog.methods())
    for name, cls in catalog.methods().items():
        assert getattr(methods, name) is cls
    with pytest.raises(AttributeError, match="medxai methods"):
        methods.GradKam  # noqa: B018


def test_every_target_has_its_name_in_targets():
    kinds = {name for name in dir(target) if name.endswith("Score")}
    assert kinds <= set(targets.__all__)
