"""Lines that stand for themselves are sentences; lines of running text are not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.form_lines import line_ends
from pipeline.sentences import split_passage

FORMS = {
    "fields": ["Name: Ada Lovelace", "Date of birth: 10 December 1815", "Occupation: mathematician"],
    "a field in small letters": ["Order", "number: 4711", "Total: 12.00"],
    "an address between fields": [
        "Invoice to:",
        "Acme Ltd.",
        "12 High Street",
        "Invoice no: 4711",
        "Total due: $55.00",
    ],
    "bullets": ["What is wanted:", "- a box of letters", "- the only key", "- rain"],
    "numbers": ["1. The tenant pays", "2. The landlord mends", "3. Both agree"],
    "letters in brackets": ["The parties:", "(a) the seller", "(b) the buyer"],
    "cells": ["Item\tPrice", "Box\t12.00", "Key\t3.50"],
    "turns of speech": [
        "Marketing: I think that the remote should be yellow, since that is what people buy these days",
        "Designer: Then it will be yellow",
    ],
    "a log with dates": [
        "2024-01-15 10:00:01,123 INFO worker 295 on host-a started",
        "2024-01-15 10:00:02,001 ERROR Out of disk space on /var\n    at com.x.Y(Z.java:1)\n    at com.x.Z(Z.java:2)",
        "2024-01-15 10:00:03,000 FATAL shutting down",
    ],
    "a log of the system": ["Jan  5 10:00:01 host sshd[1]: Accepted", "Jan 15 10:00:02 host cron: job"],
    "a log of a web server": [
        '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 23',
        '127.0.0.1 - eve [10/Oct/2000:13:55:37 -0700] "GET /b HTTP/1.0" 404 99',
    ],
    "a log of levels": ["[INFO] Scanning for projects", "[INFO] Building", "[ERROR] failed"],
    "times of a transcript": ["[00:01:02] Anna: Hello there", "[00:01:09] Ben: fine"],
    "sentences in fields": ["Note: It rains.", "Bring a coat.", "Reply to: me"],
}
RUNNING = {
    "wrapped prose": "The old captain keeps a wooden box of letters below his berth and\nnobody has seen it open.",
    "a colon in prose": "He took three things with him: a box, a key and\nthe letters that nobody had seen.",
    "a number at a line's start": "The harbour had no more than\n12 lamps, and they burned late.",
    "a year at a line's start": "All of this was long before the summer of\n1984. Nobody remembers it.",
    "verse": "Full fathom five thy father lies\nOf his bones are coral made\nThose are pearls that were his eyes",
    "a time at a line's start": "He came home at\n10:00:05 sharp. It was\nINFORMATION that he wanted.",
    "a dash between words": "The captain was late\nas ever - and so was the mate",
    "one line": "Name: Ada",
    "nothing": "",
}


def sentences_of(text: str) -> list[str]:
    return [piece.text for piece in split_passage(text, "en", 2000)[0]]


@pytest.mark.parametrize("name", FORMS)
def test_lines_of_forms_lists_and_tables_are_sentences_of_their_own(name: str) -> None:
    lines = FORMS[name]
    wanted = ["Order\nnumber: 4711", "Total: 12.00"] if name.endswith("small letters") else lines

    assert sentences_of("\n".join(lines)) == wanted
    assert sentences_of("\n".join(lines).replace("\n", "\r\n") + "\n\n") == [
        one.replace("\n", "\r\n") for one in wanted
    ]


@pytest.mark.parametrize("name", RUNNING)
def test_line_ends_of_running_text_mean_nothing(name: str) -> None:
    assert line_ends(RUNNING[name]) == []


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(["Name: x", "- y", "\t", "12.50", "word", ".", "\n", "\r\n", " ", "(a) z", "\x0b", "é:"]),
        max_size=30,
    )
)
def test_ends_stand_behind_a_character_and_in_front_of_a_line_end(parts: list[str]) -> None:
    text = "".join(parts)
    ends = line_ends(text)

    assert ends == sorted(set(ends))
    for end in ends:
        assert not text[end - 1].isspace()
        assert "\n" in text[end : len(text) - len(text[end:].lstrip())]
