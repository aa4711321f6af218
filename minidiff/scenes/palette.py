"""The colours of scenes: named colours, the colours of the seasons, and the light of each time of day and weather.

Idea: a colour is written once, as 0 to 255, and used as float32 in [0, 1].  A canvas multiplies the colours of things
by the light.  Colours with a row for each time (sky, sun, clouds, windows, water, sand) contain its light already, so
they are not multiplied by it again.
Leaves out the styles, which repaint a rasterised image: styles.py.
"""

import numpy as np

from minidiff.scenes.factors import CLEAR, COLOURS, NIGHT, Factors


def table(*colours: tuple[int, ...]) -> np.ndarray:
    """Return colours given as 0 to 255 as (n, 3) float32 in [0, 1]."""
    return np.array(colours, np.float32) / np.float32(255)


def mix(a: np.ndarray, b: np.ndarray, amount: float | np.ndarray) -> np.ndarray:
    """Return a + (b - a) amount."""
    return a + (b - a) * np.asarray(amount, np.float32)


_NAMED = {
    "red": (220, 50, 47),
    "orange": (242, 132, 34),
    "yellow": (250, 212, 60),
    "green": (70, 160, 74),
    "blue": (52, 112, 216),
    "purple": (140, 78, 190),
    "pink": (246, 142, 182),
    "brown": (140, 86, 50),
    "white": (248, 246, 242),
    "black": (54, 50, 60),
    "grey": (150, 152, 160),
}
NAMED = table(*(_NAMED[name] for name in COLOURS))

WHITE, CREAM = table((255, 255, 255))[0], table((255, 246, 222))[0]
HAZE = table((196, 218, 236), (246, 190, 160), (70, 84, 150))  # by time: the colour that distant things fade to

# One row for each time: day, sunset, night.
SKY_TOP = table((70, 150, 232), (96, 82, 168), (22, 28, 78))
SKY_LOW = table((208, 236, 250), (255, 188, 128), (76, 82, 158))
LIGHT = table((255, 255, 255), (255, 216, 192), (134, 144, 206))
BODY = table((255, 230, 110), (255, 238, 160), (250, 246, 216))  # sun, sun, moon
CLOUD = table((255, 255, 255), (255, 206, 190), (104, 112, 172))
WATER_NEAR = table((120, 204, 218), (214, 150, 150), (58, 84, 160))
WATER_FAR = table((40, 124, 190), (122, 96, 156), (30, 48, 116))
SAND = table((242, 210, 146), (238, 166, 116), (104, 100, 168))
DUNE = table((226, 172, 104), (200, 110, 92), (74, 70, 140))
WINDOW = table((150, 202, 234), (255, 222, 130), (255, 218, 110))

# One row for each season: spring, summer, autumn, winter.
GRASS = table((172, 222, 98), (74, 154, 72), (206, 146, 62), (238, 244, 250))
LEAVES = table((246, 176, 202), (64, 148, 74), (230, 116, 44), (214, 230, 240))  # of the subject "tree"
GROVE = table((246, 176, 202), (58, 136, 76), (222, 132, 52), (92, 138, 132))  # of distant trees
PINE = table((70, 148, 96), (44, 120, 82), (96, 124, 70), (70, 118, 116))

BARK, ROCK, ROAD = table((112, 78, 56), (128, 136, 164), (112, 116, 128))
CACTUS = table((84, 150, 96))[0]
WALLS = table((136, 150, 196), (206, 138, 122), (150, 172, 160), (222, 188, 132))
PETALS = table((250, 120, 150), (255, 226, 110), (255, 255, 255), (214, 120, 214))


def light(factors: Factors, strength: float = 1.0) -> np.ndarray:
    """Return the light of each image, from its time and weather: (N, 3) float32.  strength: 0 is white light."""
    return mix(WHITE, LIGHT[factors.time] * weather_light(factors), strength)


def weather_light(factors: Factors) -> np.ndarray:
    """Return the light of the weather alone, darker under clouds by day: (N, 3) float32."""
    dull = (factors.weather != CLEAR) & (factors.time != NIGHT)
    return mix(WHITE, np.float32(0.9) * WHITE, dull[:, None])
