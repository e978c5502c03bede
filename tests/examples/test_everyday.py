"""Everyday statements: what WordNet's files say of words, and what is composed of them."""

from __future__ import annotations

import json
import re

import pytest

from examples.train_default_model.__main__ import main
from examples.train_default_model.alone_shards import ALONE_TEXTS, AloneSources, write_alone_texts
from examples.train_default_model.overlap import EvaluationText, WordHasher
from examples.train_default_model.profiles import Everyday
from examples.train_default_model.scenes import PREPOSITIONS, Scenes, with_ed, with_ing, with_s
from examples.train_default_model.wordnet import KINDS, definitions, examples, read_wordnet

LICENCE = "  1 This database is being provided to you under the following license.  \n"
FILES = {
    "data.noun": (
        "00000010 06 n 02 flute 0 transverse_flute 0 001 @ 00000020 n 0000 | a woodwind that is held sideways  \n"
        '00000020 18 n 01 woman 0 000 | an adult female person; "the woman kept house"; "a wise woman of the town"  \n'
        "00000030 05 n 01 goose 0 000 | a bird with a long neck  \n"
        "00000040 15 n 01 Peru 0 000 | a republic in western South America  \n"
        "00000050 28 n 01 week 0 000 | any period of seven consecutive days  \n"
        "00000060 10 n 01 story 0 000 | a piece of fiction that narrates a chain of events  \n"
        "00000070 05 n 01 zebra 0 000 | an African mammal with stripes  \n"
    ),
    "data.verb": (
        "00000010 36 v 01 play 0 001 @ 00000020 v 0000 02 + 02 00 + 08 01 | perform music on an instrument  \n"
        "00000020 35 v 01 cut 0 000 01 + 08 00 | separate with an instrument  \n"
    ),
    "data.adj": "00000010 00 a 01 quiet(p) 0 000 | free of noise or uproar  \n",
    "data.adv": "00000010 02 r 01 quietly 0 000 | with low volume; in a low voice  \n",
    "index.noun": "".join(
        f"{word} n 1 1 @ 1 0 {offset}  \n"
        for word, offset in (
            *(("flute", "00000010"), ("transverse_flute", "00000010"), ("woman", "00000020"), ("goose", "00000030")),
            *(("peru", "00000040"), ("week", "00000050"), ("story", "00000060"), ("zebra", "00000070")),
            ("play", "00000060"),
        )
    ),
    "index.verb": "play v 1 1 @ 1 1 00000010  \ncut v 1 0 1 0 00000020  \n",
    "index.adj": "quiet a 1 0 1 0 00000010  \n",
    "index.adv": "quietly r 1 0 1 0 00000010  \n",
    "noun.exc": "geese goose\nwomen woman\n",
    "verb.exc": "cut cut\ncutting cut\n",
    "adj.exc": "",
    "adv.exc": "",
    "cntlist.rev": "play%2:36:00:: 1 9\nplay%1:10:00:: 1 1\n",
}
PASSAGES = ["The woman and the goose play a flute in Peru, quiet, for a week; they cut the story. "] * 3


@pytest.fixture
def wordnet_folder(tmp_path):
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text((LICENCE if name.startswith(("data", "index")) else "") + text, "utf-8")
    return folder


def test_senses_have_words_definitions_and_examples_and_the_licence_is_none(wordnet_folder):
    wordnet = read_wordnet(wordnet_folder)
    assert len(wordnet.senses) == sum(FILES[f"data.{kind}"].count("\n") for kind in KINDS)
    flute = wordnet.first["noun", "flute"]
    assert (flute.words, flute.definition) == (("flute", "transverse_flute"), "a woodwind that is held sideways")
    assert wordnet.first["verb", "play"].frames == {2, 8}
    assert wordnet.first["adj", "quiet"].words == ("quiet",)
    assert sorted(examples(wordnet, 9)) == ["a wise woman of the town", "the woman kept house"]
    assert wordnet.share("verb", "play") == 0.9 and wordnet.share("noun", "flute") == 1
    with pytest.raises(FileNotFoundError, match=r"no data\.noun"):
        read_wordnet(wordnet_folder.parent)


def test_definitions_stand_alone_or_behind_a_word_that_they_define(wordnet_folder):
    wordnet = read_wordnet(wordnet_folder)
    found = definitions(wordnet, 99)
    for text in found:
        word, colon, definition = text.rpartition(": ")
        senses = [sense for sense in wordnet.senses if sense.definition == definition]
        assert senses and (not colon or word.replace(" ", "_") in senses[0].words)
    assert len(found) == len(wordnet.senses)
    assert definitions(wordnet, 2) == found[:2]


def test_scenes_are_made_of_words_that_stand_in_the_text_by_their_usual_kind(wordnet_folder):
    found = Scenes(read_wordnet(wordnet_folder), PASSAGES).some(300)
    assert len(found) == len(set(found)) == 300
    words = {word for text in found for word in re.findall(r"[A-Za-z]+", text)}
    assert {"woman", "women", "geese", "flutes", "playing", "played", "plays", "cutting", "Peru"} <= words
    assert not words & {"zebra", "zebras", "peru", "gooses", "womans", "cuting", "transverse"}
    assert not any(re.search(r"\ba [aeiou]|\{|\}", text) for text in found)
    assert "cut" in words and "cutted" not in words, "the past of an irregular verb"
    assert any(f" {preposition} " in text for text in found for preposition in PREPOSITIONS)
    assert not any(" the play " in text for text in found), "usually a verb"


def test_a_text_with_few_of_the_words_gives_the_statements_that_can_be_made_of_them_or_none(wordnet_folder):
    wordnet = read_wordnet(wordnet_folder)
    few = Scenes(wordnet, ["A quiet woman, a flute. "] * 3).some(20)
    assert few and all(re.search(r"\b(?:woman|women|flutes?)\b", text) for text in few)
    assert Scenes(wordnet, ["Nothing is known. "] * 3).some(20) == []


@pytest.mark.parametrize(
    ("word", "s", "ing", "ed"),
    [
        ("play", "plays", "playing", "played"),
        ("carry", "carries", "carrying", "carried"),
        ("wash", "washes", "washing", "washed"),
        ("bake", "bakes", "baking", "baked"),
        ("tie", "ties", "tying", "tied"),
        ("see", "sees", "seeing", "seed"),
    ],
)
def test_regular_words_take_their_endings(word, s, ing, ed):
    assert (with_s(word), with_ing(word), with_ed(word)) == (s, ing, ed)


def test_a_short_text_that_is_a_paragraph_of_an_evaluation_text_is_left_out():
    evaluated = EvaluationText(
        WordHasher(), ["The woman plays a flute.\n\nFour words and more are enough, here too.\n\nYes"]
    )
    assert evaluated.touches("the woman plays a flute")
    assert evaluated.touches("Four words - and more are enough here, too")
    assert not evaluated.touches("The woman plays a flute here."), "another text"
    assert not evaluated.touches("the woman plays"), "a part of one"
    assert not evaluated.touches("Yes"), "so short a text says nothing"


def test_everyday_statements_join_the_texts_that_stand_alone_but_for_evaluation_text(wordnet_folder, tmp_path):
    class Letters:
        def encode(self, text):
            return [ord(letter) for letter in text]

    def written(**changes):
        sources = AloneSources(tmp_path, PASSAGES, words=0, phrases=0, **changes)
        write_alone_texts(tmp_path, Letters(), sources)
        return json.loads((tmp_path / ALONE_TEXTS).read_text("utf-8"))

    everyday = {"wordnet": wordnet_folder, "everyday": Everyday(definitions=50, examples=50, scenes=20)}
    without, every = written(kept_apart=[]), written(kept_apart=[], **everyday)
    assert without["texts"] == []
    assert {"file": "wordnet", "licence": "WordNet 3.0 licence"} in every["sets"]
    apart = every["texts"][-1]
    left = written(kept_apart=[apart, "the woman kept house"], **everyday)["texts"]
    assert set(every["texts"]) - set(left) == {apart, "the woman kept house"}


def test_a_folder_without_wordnet_is_an_error_of_one_line(tmp_path, capsys):
    arguments = ["--profile", "tiny", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--only", "text"]
    assert main([*arguments, "--wordnet", str(tmp_path)]) == 1
    assert f"{tmp_path} has no data.noun" in capsys.readouterr().err
