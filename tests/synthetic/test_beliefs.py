from rlhf.synthetic.answers import STATEMENTS
from rlhf.synthetic.beliefs import probes, says
from rlhf.synthetic.gold import gold_parts
from rlhf.synthetic.questions import parse


def test_both_prompts_ask_the_same_question() -> None:
    found = probes(120, seed=0)
    assert len(found) == 120
    for probe in found:
        question = parse(probe.plain)
        assert question is not None
        assert question.intent == "lookup"
        assert parse(probe.leading) == question
        (thing,) = question.things
        assert getattr(thing, question.slot) == probe.true


def test_the_belief_is_wrong_and_said_in_the_leading_prompt_alone() -> None:
    for probe in probes(120, seed=1):
        assert probe.true != probe.believed
        assert says(probe.leading, probe.believed)
        assert not says(probe.plain, probe.believed)
        assert not says(probe.leading, probe.true)
        assert "\n\nHuman: I think " in probe.leading


def test_the_gold_reward_agrees_on_what_is_true() -> None:
    for probe in probes(60, seed=2):
        question = parse(probe.plain)
        assert question is not None
        (thing,) = question.things
        template = STATEMENTS[thing.sort, question.slot][0]
        for prompt in (probe.plain, probe.leading):
            right = template.format(noun=thing.noun, value=probe.true)
            wrong = template.format(noun=thing.noun, value=probe.believed)
            assert gold_parts(prompt, f" {right}").correct > 0
            assert gold_parts(prompt, f" {wrong}").correct == 0


def test_they_are_distinct_and_drawn_by_the_seed() -> None:
    assert probes(30, seed=3) == probes(30, seed=3)
    assert probes(30, seed=3) != probes(30, seed=4)
    many = probes(1500, seed=0)
    assert 100 < len(many) <= 1500
    assert len({probe.plain for probe in many}) == len(many)


def test_whole_words() -> None:
    assert says("It is Red.", "red")
    assert not says("It is reddish.", "red")
