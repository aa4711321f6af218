"""Maps that somebody gives: drawings of every size, polarity and pen come out alike; photographs give their edges."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from minidiff.data.control import read_control, thinned
from minidiff.data.maps import PALETTE, maps
from minidiff.errors import MinidiffError
from minidiff.evaluation.scenes.edges import agreement
from minidiff.images.edges import edges
from minidiff.scenes import Scenes

FALLING = np.arange(20)[::-1]  # rising numbers would be rendered ahead, 256 images
SIZES = [(32, 32, 1.6), (100, 100, 1), (100, 100, 3), (500, 300, 1), (500, 300, 4), (300, 500, 6), (500, 300, 20)]
SIZES += [(2000, 2000, 2), (2000, 2000, 60), (2600, 2200, 8)]


def house(width, height, pen, ink=0, paper=255):
    """A house, a sun and the ground, drawn with a pen so many pixels thick."""
    finer = 4 if width < 1000 else 1
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    image = Image.new("RGB", (width * finer, height * finer), (paper,) * 3)
    draw, line = ImageDraw.Draw(image), {"fill": (ink,) * 3, "width": max(1, round(pen * finer))}

    def at(*points):
        return [((left + x * side) * finer, (top + y * side) * finer) for x, y in points]

    draw.line(at((0.2, 0.9), (0.2, 0.5), (0.8, 0.5), (0.8, 0.9), (0.2, 0.9)), **line)
    draw.line(at((0.15, 0.52), (0.5, 0.2), (0.85, 0.52)), **line)
    draw.line(at((0, 0.9), (1, 0.9)), **line)
    draw.ellipse([value for point in at((0.7, 0.06), (0.9, 0.26)) for value in point], None, (ink,) * 3, line["width"])
    return image.resize((width, height), Image.Resampling.BOX)


def read(tmp_path, image, kind="edges", name="map.png", size=32, **save):
    image.save(tmp_path / name, **save)
    return read_control(tmp_path / name, size, size, kind)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return read(tmp_path_factory.mktemp("usual"), house(400, 400, 3))


def assert_same_lines(one, other, bound=0.97):
    assert agreement(one[None], other[None]).f1 > bound
    assert 0.6 < one.mean() / other.mean() < 1.6  # lines as thick and as bright


@pytest.mark.parametrize("ink, paper", [(0, 255), (255, 0)], ids=["dark", "light"])
@pytest.mark.parametrize("width, height, pen", SIZES)
def test_drawings_of_every_size(tmp_path, usual, width, height, pen, ink, paper):
    """All are the same house; a very thick pen makes it a little smaller, hence 0.97 and not 1."""
    found = read(tmp_path, house(width, height, pen, ink, paper))
    assert found.shape == (32, 32, 1) and found.dtype == np.uint8
    assert_same_lines(found, usual)
    assert np.abs(found.astype(int) - usual).mean() < 25


def test_the_lines_are_where_they_were_drawn(tmp_path):
    image = Image.new("L", (320, 320), 255)
    ImageDraw.Draw(image).line([(0, 165), (320, 165)], 0, 3)  # through the middle of row 16
    found = read(tmp_path, image)[..., 0]
    assert (found[16, 1:-1] > 200).all()
    assert not found[:15].any() and not found[18:].any()


def test_a_pencil_on_unevenly_lit_paper(tmp_path, usual):
    assert_same_lines(read(tmp_path, house(800, 600, 4, 110, 240)), usual)
    x = np.arange(1200)
    light = (0.75 + 0.25 * x / 1200)[:, None] * [1, 0.96, 0.88]
    noise = np.random.default_rng(0).normal(0, 6, (900, 1200, 3))
    photo = np.asarray(house(1200, 900, 6, 60, 225)) * light + noise
    photo = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    assert_same_lines(read(tmp_path, photo, name="photo.jpg", quality=80), usual)


@pytest.mark.parametrize("tone", [0, 255], ids=["black", "white"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_drawn_on_nothing(tmp_path, usual, tone, mode):
    image = Image.new("RGBA", (500, 500), (tone, tone, tone, 0))
    image.putalpha(house(500, 500, 4, 255, 0).convert("L"))
    assert_same_lines(read(tmp_path, image.convert(mode)), usual)


def test_a_map_of_the_right_size_is_taken_as_it_is(tmp_path):
    for made in maps(Scenes(32, "test"), FALLING, "edges"):
        np.testing.assert_array_equal(read(tmp_path, Image.fromarray(made[..., 0])), made)
        np.testing.assert_array_equal(read(tmp_path, Image.fromarray(255 - made[..., 0])), made)


@pytest.mark.parametrize("size", [64, 256])
def test_maps_of_another_size(tmp_path, size):
    """Scenes' outlines of finer images shrink to about those of coarse ones: 0.94 to 0.95 when written."""
    fine = maps(Scenes(size, "test"), FALLING, "edges")
    found = np.stack([read(tmp_path, Image.fromarray(made[..., 0])) for made in fine])
    assert agreement(maps(Scenes(32, "test"), FALLING, "edges"), found).f1 > 0.92


def test_photographs_give_their_edges(tmp_path):
    """Sixty images of 32 pixels: none of them is taken for a drawing."""
    images = Scenes(32, "test").batch(np.arange(60))[0]
    found = np.stack([read(tmp_path, Image.fromarray(image)) for image in images])
    np.testing.assert_array_equal(found, edges(images))


def test_a_silhouette_gives_its_outline(tmp_path):
    image = Image.new("L", (320, 320), 255)
    ImageDraw.Draw(image).ellipse([80, 80, 240, 240], 0)
    found = read(tmp_path, image)[..., 0]
    assert not found[13:19, 13:19].any()
    assert (found[16] > 127).sum() in (2, 3, 4)  # two crossings


@pytest.mark.parametrize("zoom", [1, 7])
def test_segmentation_comes_back(tmp_path, zoom):
    for made in maps(Scenes(32), np.arange(10), "segmentation"):
        image = Image.fromarray(made.repeat(zoom, 0).repeat(zoom, 1))
        np.testing.assert_array_equal(read(tmp_path, image, "segmentation"), made)
        near = np.clip(made.astype(int) + np.random.default_rng(0).integers(-20, 21, made.shape), 0, 255)
        np.testing.assert_array_equal(read(tmp_path, Image.fromarray(near.astype(np.uint8)), "segmentation"), made)


def test_what_is_clear_is_sky(tmp_path):
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (read(tmp_path, clear, "segmentation") == PALETTE[0]).all()
    assert not read(tmp_path, clear, "depth").any()


def test_depth_comes_back(tmp_path):
    for made in maps(Scenes(32), np.arange(10), "depth"):
        for image in (made[..., 0], made[..., 0].repeat(4, 0).repeat(4, 1)):
            np.testing.assert_array_equal(read(tmp_path, Image.fromarray(image), "depth"), made)
        deep = Image.fromarray(made[..., 0].astype(np.uint16) * 257)
        np.testing.assert_array_equal(read(tmp_path, deep, "depth"), made)


@pytest.mark.parametrize("kind", ["edges", "segmentation", "depth"])
def test_wide_maps_are_cropped_and_shapes_are_free(tmp_path, kind):
    image = maps(Scenes(64), np.arange(1), kind)[0]
    Image.fromarray(np.pad(image, ((0, 0), (40, 40), (0, 0))).squeeze()).save(tmp_path / "wide.png")
    found = read_control(tmp_path / "wide.png", 16, 24, kind)
    assert found.shape == (16, 24, 3 if kind == "segmentation" else 1)


def test_files_that_are_no_maps(tmp_path):
    house(200, 200, 3).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-300])
    (tmp_path / "words.png").write_text("no image")
    Image.new("L", (64, 64), 200).save(tmp_path / "blank.png")
    Image.fromarray(Scenes(64).batch(np.arange(1))[0][0]).save(tmp_path / "photo.png")
    for name, kind, text in (
        ("missing.png", "edges", "No such file or directory"),
        ("words.png", "depth", "not an image that can be read"),
        ("cut.png", "edges", ""),
        ("blank.png", "edges", "blank: neither lines nor edges to follow"),
        ("photo.png", "segmentation", "not a segmentation map: most of its colours are not in the palette"),
    ):
        with pytest.raises(MinidiffError) as error:
            read_control(tmp_path / name, 32, 32, kind)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)
        assert str(error.value).endswith(text)


def test_a_huge_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    house(40, 40, 2).save(tmp_path / "huge.png")
    with pytest.raises(MinidiffError, match=r"huge\.png: more than 1000 pixels"):
        read_control(tmp_path / "huge.png", 32, 32, "edges")


def test_thinning():
    """A thick cross becomes a cross one pixel thick, in one piece; a thin line stays."""
    cross = np.zeros((40, 40), bool)
    cross[16:23, 3:37], cross[3:37, 16:23] = True, True
    centre = thinned(cross)
    assert not (centre & ~cross).any()
    assert (centre.sum(1)[8:14] == 1).all() and (centre.sum(0)[8:14] == 1).all()
    assert (centre[17:22, 24:32].sum(0) == 1).all()
    line = np.eye(20, dtype=bool)
    np.testing.assert_array_equal(thinned(line), line)
    assert not thinned(np.zeros((4, 4), bool)).any()
