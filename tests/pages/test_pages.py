"""What pages have in common: pictures, and the shell around the parts."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from fcnn_gpu import pages
from fcnn_gpu._types import HostArray

RNG = np.random.default_rng(0)


def decoded(figure: str) -> HostArray:
    """The picture's samples, 0 to 255."""
    [data] = re.findall(r'src="data:image/png;base64,([^"]*)"', figure)
    return np.asarray(imread(io.BytesIO(base64.b64decode(data)))) * 255


def test_a_picture_is_grey() -> None:
    pixels = RNG.integers(0, 256, (5, 7)).astype(float)
    pixels.flat[:2] = 0, 255
    np.testing.assert_allclose(decoded(pages.picture(pixels, "")), pixels, atol=1e-3)
    np.testing.assert_allclose(decoded(pages.picture(pixels / 3 - 40, "")), pixels, atol=1e-3)


def test_a_signed_picture_is_of_two_colours_that_fade_towards_0() -> None:
    pixels = RNG.normal(size=(5, 7))
    pixels[0, 0] = 0.0
    found = decoded(pages.picture(pixels, "", signed=True))
    np.testing.assert_allclose(found[:, :, 3], np.abs(pixels) / np.abs(pixels).max() * 255, atol=0.51)
    colours = {tuple(np.rint(colour).astype(int)) for colour in found[pixels < 0, :3]}
    assert colours == {(0xD5, 0x5E, 0x00)}
    assert {tuple(np.rint(colour).astype(int)) for colour in found[pixels > 0, :3]} == {(0x00, 0x72, 0xB2)}


@pytest.mark.parametrize("signed", [False, True])
def test_a_picture_of_one_number_everywhere(signed: bool) -> None:
    assert (decoded(pages.picture(np.zeros((2, 3)), "", signed=signed))[..., -1] == 0).all()


def test_names_are_escaped() -> None:
    assert 'alt="&lt;b&gt; &quot;x&quot;"' in pages.picture(np.eye(2), '<b> "x"')
    assert "<title>a &lt; b</title>" in pages.page("a < b", "")


def test_every_colour_of_a_series_is_there_by_day_and_by_night() -> None:
    page = pages.page("", "")
    for i in range(pages.N_COLOURS):
        assert len(re.findall(rf"--c{i}:#", page)) == 2
        assert f".line.c{i}{{stroke:var(--c{i})}}" in page
