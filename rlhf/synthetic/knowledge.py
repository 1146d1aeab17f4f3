"""The facts of the synthetic world: sixty things with their properties, and sixteen how-tos.

The world is fixed: no seed and no parameter changes it. Whatever it does not hold (invented words, and real names that
were left out on purpose) is unknown in it, and the right answer to a question about it is to say so.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

Sort = Literal["animal", "food", "city"]

# name, its two properties, and the quantity by which it is compared
ANIMALS = """
cow       | grass    | on a farm       | 700
horse     | hay      | on a farm       | 500
goat      | shoots   | on a farm       | 60
sheep     | grass    | on a farm       | 80
pig       | roots    | on a farm       | 200
wolf      | meat     | in the forest   | 45
bear      | honey    | in the forest   | 300
owl       | mice     | in the forest   | 2
squirrel  | nuts     | in the forest   | 1
deer      | shoots   | in the forest   | 100
lion      | meat     | on the savanna  | 190
zebra     | grass    | on the savanna  | 350
giraffe   | leaves   | on the savanna  | 1000
elephant  | leaves   | on the savanna  | 5000
shark     | fish     | in the sea      | 900
whale     | plankton | in the sea      | 90000
seal      | fish     | in the sea      | 110
penguin   | fish     | on the ice      | 25
camel     | thorns   | in the desert   | 550
panda     | bamboo   | in the mountains | 105
"""
FOODS = """
lemon      | yellow | sour   | 12
banana     | yellow | sweet  | 62
pear       | yellow | sweet  | 50
cherry     | red    | sweet  | 65
tomato     | red    | fresh  | 27
strawberry | red    | sweet  | 45
chili      | red    | hot    | 25
carrot     | orange | earthy | 35
pumpkin    | orange | earthy | 30
apricot    | orange | sweet  | 48
plum       | purple | sweet  | 52
grape      | purple | sweet  | 80
beet       | purple | earthy | 40
lime       | green  | sour   | 10
pea        | green  | fresh  | 28
cucumber   | green  | fresh  | 8
cabbage    | green  | bitter | 16
radish     | white  | hot    | 9
onion      | white  | hot    | 22
coconut    | white  | fresh  | 32
"""
CITIES = """
Paris     | France  | Seine        | 2100
Lyon      | France  | Rhone        | 520
Toulouse  | France  | Garonne      | 500
Rome      | Italy   | Tiber        | 2800
Turin     | Italy   | Po           | 850
Florence  | Italy   | Arno         | 360
Madrid    | Spain   | Manzanares   | 3300
Seville   | Spain   | Guadalquivir | 680
Zaragoza  | Spain   | Ebro         | 670
Berlin    | Germany | Spree        | 3700
Hamburg   | Germany | Elbe         | 1900
Munich    | Germany | Isar         | 1500
London    | England | Thames       | 8900
Bristol   | England | Avon         | 470
Liverpool | England | Mersey       | 490
Cairo     | Egypt   | Nile         | 10000
Luxor     | Egypt   | Nile         | 480
Vienna    | Austria | Danube       | 1950
Linz      | Austria | Danube       | 210
Prague    | Czechia | Vltava       | 1350
"""
HOW_TOS = """
make tea         | boil the water     | add the leaves     | wait three minutes
boil an egg      | heat a pot         | put the egg in     | wait six minutes
bake bread       | mix the flour      | knead the dough    | heat the oven
wash a shirt     | sort the clothes   | pour the soap      | hang it to dry
plant a tree     | dig a hole         | set the roots      | cover with soil
light a fire     | stack the wood     | strike a match     | blow gently
clean a window   | wet a cloth        | rub the glass      | wipe it dry
fix a tire       | lift the wheel     | patch the tube     | pump the air
send a letter    | fold the paper     | write the address  | stick a stamp
paint a wall     | tape the edges     | stir the paint     | roll it evenly
sew a button     | thread the needle  | pass four times    | tie a knot
cook rice        | rinse the grains   | salt the pan       | simmer slowly
catch a train    | check the schedule | buy a ticket       | find the platform
grow beans       | soak the seeds     | press them down    | sprinkle daily
make a kite      | cross two sticks   | glue the sheet     | knot the tail
tune a guitar    | pluck a string     | listen closely     | turn the peg
"""

# Invented words: about these nobody in the world knows anything. They occur in training.
INVENTED = tuple(
    """
    blicket dax wug toma zorple fendle gazzer mipwick plonter quazzle rillop snerd tazzik vornel welkit yarlo zibber
    brasto clumet drivvy eskoo flurn gorpin hundle ixley jorble klimt lorbit mazzel nubbin orfle prindo quilby rothek
    skeem trall umbit vexin wimble xandle yopper zanty bleem crondo dulpin erkle frabbit grinth hoskel ilvo jantle
    kreeb lunter mobbit neffle oskin pargle quent rasple splint torvo uzzle varnik wostle yindle zoffer chindo shunt
    thorby
    """.split()  # noqa: SIM905 - seventy quoted words would be harder to read
)
# Never seen in training, neither in the corpus nor in the pairs: the questions from outside the distribution use these.
UNSEEN_INVENTED = (
    "glorp", "hemmick", "jixo", "krandle", "lommer", "murpit", "nandor", "ollick", "pivven", "querl", "rembo",
    "stovik", "tweddle", "urlap", "vindo", "whuffle", "yembo", "zackle", "brindo", "chavvit",
)  # fmt: skip
UNSEEN_NAMES = (
    "otter", "badger", "falcon", "lizard", "rabbit", "turtle", "mango", "turnip", "papaya", "walnut", "leek", "fig",
    "Lisbon", "Oslo", "Dublin", "Athens", "Warsaw", "Helsinki", "Tokyo", "Boston",
)  # fmt: skip
UNSEEN_TASKS = (
    "mend a sock", "build a shed", "shoe a pony", "brew coffee", "frame a picture", "carve a spoon", "weave a basket",
    "milk a yak",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """An animal, food or city. `first` and `second` are its two properties, `amount` what comparisons compare."""

    name: str
    sort: Sort
    first: str
    second: str
    amount: float

    @property
    def noun(self) -> str:
        """Return the name as it stands in a sentence: "a cow", "an owl", "Paris"."""
        return with_article(self.name)


@dataclass(frozen=True, slots=True)
class HowTo:
    """A task and its three steps, in order."""

    task: str
    steps: tuple[str, str, str]


def with_article(name: str) -> str:
    """Put an article before a name; names with a capital are proper and take none."""
    if name[0].isupper():
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


@cache
def things() -> dict[str, Thing]:
    """Return every thing by its name, in the order of the tables."""
    sorts: tuple[tuple[Sort, str], ...] = (("animal", ANIMALS), ("food", FOODS), ("city", CITIES))
    return {
        name: Thing(name, sort, first, second, float(amount))
        for sort, table in sorts
        for name, first, second, amount in _rows(table)
    }


@cache
def how_tos() -> dict[str, HowTo]:
    """Return every how-to by its task."""
    return {task: HowTo(task, (a, b, c)) for task, a, b, c in _rows(HOW_TOS)}


@cache
def of_sort(sort: Sort) -> tuple[Thing, ...]:
    """Return all animals, all foods or all cities."""
    return tuple(thing for thing in things().values() if thing.sort == sort)


@cache
def values(sort: Sort, slot: Literal["first", "second"]) -> tuple[str, ...]:
    """Return the values that a property takes, each once."""
    return tuple(dict.fromkeys(getattr(thing, slot) for thing in of_sort(sort)))
