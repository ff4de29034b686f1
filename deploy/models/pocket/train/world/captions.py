"""Scenes in words: the grammar of the prompts that the model knows.

    [a photo of | a drawing of | ...]  SCENE  on a COLOUR background

    SCENE    an OBJECT
             an OBJECT RELATION an OBJECT          left of · right of · above · below
             two | three | four OBJECTs
             a COLOUR SHAPE inside a COLOUR circle | square | heart | diamond
             a COLOUR SHAPE, a COLOUR SHAPE[, a COLOUR SHAPE] and a COLOUR SHAPE
    OBJECT   [small | large] [outlined] COLOUR SHAPE
             [large] striped | dotted COLOUR and COLOUR SHAPE

    a COLOUR sun | moon over COLOUR hills | COLOUR mountains | a COLOUR sea under a COLOUR sky
"""

import random

from .palette import COLOURS
from .scenes import FILLS, LANDS, LIGHTS, Object, Scene
from .shapes import SHAPES

NUMBERS = {2: "two", 3: "three", 4: "four"}
SIZES = {"small": ["small", "small", "little", "tiny"], "large": ["large", "large", "big", "huge"]}
FILL_WORDS = {"outlined": ["outlined", "outlined", "hollow"], "striped": ["striped"], "dotted": ["dotted", "dotted", "spotted"]}
RELATION_WORDS = {
    "left of": ["left of", "left of", "to the left of", "on the left of"],
    "right of": ["right of", "right of", "to the right of", "on the right of"],
    "above": ["above", "above", "over", "on top of"],
    "below": ["below", "below", "under", "beneath"],
}
SIDE_BY_SIDE = ["and", "and", "next to", "beside"]
"""What stands beside something else is usually named from left to right."""
NOTHING = ["painted", "solid", "bright"]
"""Words that say nothing."""
OPENINGS = ["a picture of", "a painting of", "a drawing of", "a photo of", "an image of"]

WORDS = sorted(
    {"a", "an", "the", "grey", "sky", "background", "against", "with", "inside", "in", "within", "to", "of", "on", "and", ",", "."}
    | {"one", "1", "2", "3", "4", "shape", "shapes", "color", "sun", "suns", "over", "above", "under"}
    | {word for words in (SIZES | FILL_WORDS).values() for word in words}
    | {word for phrases in (*RELATION_WORDS.values(), SIDE_BY_SIDE, OPENINGS) for phrase in phrases for word in phrase.split()}
    | {*COLOURS, *FILLS, *LANDS, *LIGHTS, *NOTHING, *NUMBERS.values(), *SHAPES, *(shape + "s" for shape in SHAPES)}
)
"""Every word that a caption can have, for the tokenizer."""


def with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


class Canonical:
    """The one way to say something."""

    def choose(self, phrases: list[str]) -> str:
        return phrases[0]

    def happens(self, _probability: float) -> bool:
        return False


class Free:
    """Any way to say it."""

    def __init__(self, rng: random.Random):
        self.choose, self.rng = rng.choice, rng

    def happens(self, probability: float) -> bool:
        return self.rng.random() < probability


def colour(way: Canonical | Free, name: str) -> str:
    return "grey" if name == "gray" and way.happens(0.25) else name


def thing(way: Canonical | Free, one: Object) -> str:
    """An object without its article."""
    words = [way.choose(SIZES[one.size])] if one.size else []
    words += [way.choose(NOTHING)] if not one.fill and way.happens(0.08) else []
    colours = [colour(way, one.colour), *(["and", colour(way, one.second)] if one.second else [])]
    fill = [way.choose(FILL_WORDS[one.fill])] if one.fill else []
    words += colours + fill if one.second and way.happens(0.4) else fill + colours
    return " ".join([*words, one.shape])


def scene_words(way: Canonical | Free, scene: Scene) -> str:
    if scene.kind == "row":
        count = len(scene.objects)
        return f"{str(count) if way.happens(0.15) else NUMBERS[count]} {thing(way, scene.objects[0])}s"
    bare = way.happens(0.12)
    names = [thing(way, one) if bare else with_article(thing(way, one)) for one in scene.objects]
    if scene.kind == "pair":
        relation = way.choose(RELATION_WORDS[scene.relation])
        if scene.relation == "left of" and way.happens(0.25):
            relation = way.choose(SIDE_BY_SIDE)
        return f"{names[0]} {relation} {names[1]}"
    if scene.kind == "inside":
        return f"{names[0]} {way.choose(['inside', 'inside', 'in', 'within'])} {names[1]}"
    return ", ".join(names[:-1]) + " and " + names[-1] if scene.kind == "list" else names[0]


def landscape_words(way: Canonical | Free, scene: Scene) -> str:
    land = f"{colour(way, scene.land_colour)} {scene.land}"
    land = with_article(land) if scene.land == "sea" else land
    light = with_article(thing(way, scene.objects[0]))
    return f"{light} {way.choose(['over', 'over', 'above'])} {land} under {with_article(colour(way, scene.background) + ' sky')}"


def tell(way: Canonical | Free, scene: Scene) -> str:
    if scene.kind == "landscape":
        text = landscape_words(way, scene)
    else:
        text, name = scene_words(way, scene), colour(way, scene.background)
        # Nothing said means white.
        if not (scene.background == "white" and way.happens(0.2)):
            if not way.happens(0.30):
                text += f" on {with_article(name)} background"
            elif way.happens(0.6):
                text += f" on {name}"
            else:
                text += way.choose([f", {name} background", f" against {with_article(name)} background", f" on {name} background"])
    if way.happens(0.12):
        text = f"{way.choose(OPENINGS)} {text}"
    return text + "." if way.happens(0.06) else text


def canonical(scene: Scene) -> str:
    return tell(Canonical(), scene)


def caption(rng: random.Random, scene: Scene) -> str:
    """A caption for training: the canonical one in 35 of 100."""
    return canonical(scene) if rng.random() < 0.35 else tell(Free(rng), scene)
