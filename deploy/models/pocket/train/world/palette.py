"""The colours, each with the one RGB value that it has in every picture."""

SIDE = 128
"""Width and height of the pictures, in pixels."""

PALETTE = {
    "red": (220, 38, 38),
    "green": (40, 160, 70),
    "blue": (40, 80, 215),
    "yellow": (250, 220, 50),
    "orange": (250, 135, 25),
    "purple": (145, 60, 185),
    "white": (255, 255, 255),
    "black": (15, 15, 15),
    "gray": (130, 130, 130),
}
COLOURS = list(PALETTE)
