"""
A stripe: its pixels are those that plain Python computes, and its work is measured.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mcmandelbrot import stripe as stripeModule
from mcmandelbrot.errors import BadRequest
from mcmandelbrot.kernel import INSIDE
from mcmandelbrot.palette import colorize
from mcmandelbrot.png import PNGAssembler
from mcmandelbrot.stripe import Stripe, drawStripe, loadKernel, prepareWorker, renderStripe
from mcmandelbrot.view import View
from tests.mcmandelbrot.references import countPlainly, decodePNG, pointsOf

VIEW = View(24, -0.7453, 0.1127, 6.5e-3, 4e-3, 300)


def test_pixelsAreThoseOfPlainPython() -> None:
    counts = [
        [escape[1] if (escape := countPlainly(c, VIEW.iterations)) else INSIDE for c in row]
        for row in pointsOf(VIEW.grid, 3, 5, VIEW.width)
    ]
    expected = colorize(np.array(counts, np.float32), VIEW.iterations).astype(int)
    drawn = np.frombuffer(drawStripe(Stripe(VIEW, 3, 5)), np.uint8).reshape(5, VIEW.width, 3)
    # Libraries may round a logarithm differently, which may make it the next colour.
    assert abs(drawn - expected).max() <= 2


def test_renderedStripeHasTheDrawnPixels() -> None:
    whole = Stripe(VIEW, 0, VIEW.height)
    rendered = renderStripe(whole)
    assembler = PNGAssembler(VIEW.width, VIEW.height)
    file = assembler.start() + assembler.add(rendered.packed) + assembler.finish()
    assert b"".join(decodePNG(file).rows) == drawStripe(whole)
    assert rendered.seconds > 0


def test_workAndResultCrossToAnotherProcess() -> None:
    prepareWorker(VIEW)
    work = Stripe(VIEW, 0, 2)
    function, argument = pickle.loads(pickle.dumps((renderStripe, work)))
    assert function is renderStripe
    assert argument == work
    rendered = renderStripe(work)
    assert pickle.loads(pickle.dumps(rendered)) == rendered


FAULTS = """
import platform, resource
from mcmandelbrot.stripe import Stripe, prepareWorker, renderStripe
from mcmandelbrot.view import View

view = View(8000, -0.63, 0.0, 1.4, 1.2, 50)
prepareWorker(view)
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    renderStripe(Stripe(view, 0, 16))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[1] if platform.libc_ver()[0] == "glibc" else 0)
"""


def test_aStripeIsDrawnInMemoryThatTheProcessHas() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=50, check=True
    )
    # One stripe takes about 500 pages.
    assert int(done.stdout) < 50


def test_unwritableCacheIsNamedWithItsRemedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'kernel.py'")

    monkeypatch.setattr(stripeModule, "import_module", refuse)
    with pytest.raises(BadRequest, match="NUMBA_CACHE_DIR"):
        loadKernel()


def test_otherErrorsOfTheKernelAreNotRenamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(stripeModule, "import_module", refuse)
    with pytest.raises(RuntimeError, match="something else"):
        loadKernel()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("mcmandelbrot.cli", ["numba", "numpy", "twisted", "multiprocessing"]),
        ("mcmandelbrot.stripe", ["numba", "numpy", "twisted"]),
        ("mcmandelbrot.kernel", ["twisted"]),
        ("mcmandelbrot.render", ["numba", "numpy"]),
    ],
)
def test_importIsLight(module: str, heavy: list[str]) -> None:
    script = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.strip() == "[]"
