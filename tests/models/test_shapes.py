"""The annotations of the networks are held in every call that the tests make."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from eegdm.models.pooling import pool_bounds
from eegdm.models.s4d import S4D


def test_a_wrong_shape_or_type_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        S4D(4, 8)(torch.zeros(5, 4))
    with pytest.raises(jaxtyping.TypeCheckError):
        pool_bounds("long", 200, 200, 200.0)
