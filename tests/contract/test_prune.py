"""The step that prunes keeps the contract of steps."""

import pytest

from tersenet import Prune
from tersenet.testing.step import check_step

PRUNED = [
    Prune(ratio=0.5),
    Prune(macs=0.3, criterion="taylor", scope="global", multiple=1),
    Prune(parameters=0.3, criterion="activation", least=2, keep=("head",)),
    Prune(layers=(("stem*", 0.25),), criterion="random", heads=False),
]


@pytest.mark.parametrize("step", PRUNED, ids=range(len(PRUNED)))
def test_prune(step):
    check_step(step)
