"""Values found by rules: what is read as what, seams that do not show, and quotes that stand in the text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from jobs.extract_schema import ExtractTask, FieldSchema, default_schema, from_json_schema
from pipeline.errors import DocumentError
from pipeline.fields import shipped
from pipeline.fields.calibration import CUED_POINTS, RANKED_POINTS, RULE_POINTS, confidence
from pipeline.fields.rules import finders
from pipeline.fields.stretches import CORE_CHARS
from pipeline.tasks import extract
from pipeline.tasks.extract import Extract
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.moments import Rehearsal, rows_of

RULES = sorted(finders())
SAMPLES = (
    "The agreement is dated as of March 3, 2020. ",
    "It ends on 31 December 2024, unless renewed. ",
    "Fees of US$ 2.5 million (two hundred dollars a day) fall due within thirty (30) days. ",
    "Interest is five percent (5%) a year. ",
    "Invoice No. 2023-001\nTotal: EUR 1.500,00\nContact: Jane Roe <jane.roe@example.org>\n\n",
    "See https://Example.org/a_(b)?q=1. ",
    'This Supply Agreement is made between Acme, Inc. ("Acme") and Bolt Ltd (the "Buyer"). ',
    "It is governed by the laws of the State of New York. ",
    "Größe naïve 今天天气 🙂 e\u0301. ",
    '"Affiliate" means any company. ',
    "plain words without any value in them, ",
)


@pytest.mark.parametrize(
    ("kind", "text", "normalized"),
    [
        ("date", "January 5, 2020", "2020-01-05"),
        ("date", "the 2nd  day  of  September  1998", "1998-09-02"),
        ("date", "3. März 2020", "2020-03-03"),
        ("date", "7/31/2019", "2019-07-31"),
        ("date", "31.7.2019", "2019-07-31"),
        ("date", "2020-02-30", None),
        ("date", "March 2021", "2021-03"),
        ("money", "$1,500.00", "USD 1500"),
        ("money", "1.500,00 EUR", "EUR 1500"),
        ("money", "US$ 2.5 million", "USD 2500000"),
        ("money", "twenty dollars", "USD 20"),
        ("money", "Rs 1939 x 1", "INR 1939"),
        ("money", "Rs. 1,00,000.50", "INR 100000.5"),
        ("money", "₹2.5 crore", "INR 25000000"),
        ("money", "discount of Rs -40.00,", "INR -40"),
        ("money", "Ogółem: 316,83 zł", "PLN 316.83"),
        ("money", "NZ$12", "NZD 12"),
        ("money", "₺1.250,00", "TRY 1250"),
        ("money", "1 250 Kč", "CZK 1250"),
        ("money", "5000円", "JPY 5000"),
        ("money", "MYR 35", "MYR 35"),
        ("money", "USD$5", "USD 5"),
        ("money", "hours 5 and ALL 7 of the TOP 10", None),
        ("date", "29 maart 2014", "2014-03-29"),
        ("date", "1 stycznia 2021", "2021-01-01"),
        ("identifier", "Invoice No : # BLR_WFLD2015", "BLR_WFLD2015"),
        ("identifier", "Booking ID\nIBZY2087", "IBZY2087"),
        ("identifier", "Factuurnummer: 992288600", "992288600"),
        ("duration", "thirty (30) days", "P30D"),
        ("duration", "a two-year term", "P2Y"),
        ("duration", "one hundred twenty days", "P120D"),
        ("percentage", "five percent (5%)", "5"),
        ("percentage", "50 basis points", "0.5"),
        ("number", "1,500", "1500"),
        ("number", "v2", None),
        ("email", "X@Y.COM.", "x@y.com"),
        ("url", "(https://En.org/a_(b)).", "https://en.org/a_(b)"),
        ("identifier", "Invoice No. 2023-001", "2023-001"),
        ("identifier", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("iban", "Pay to NL50INGB0683251309IBAN now", "NL50INGB0683251309"),
        ("iban", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("iban", "DE88 3704 0044 0532 0130 00 and OD304175096047380001", None),
        ("term", '(the "Effective Date")', "effective date"),
        ("jurisdiction", "governed by the laws of the State of New York, without", "new york"),
        ("jurisdiction", "under Applicable Law", None),
        ("jurisdiction", "governed by the laws of India. Neither party", "india"),
        ("jurisdiction", "the laws of the U.S. Virgin Islands", "u.s. virgin islands"),
        ("party", "made between Acme Holdings, Inc. and others", "acme holdings inc"),
        ("title", "EXHIBIT 10.1 DISTRIBUTION AGREEMENT", "distribution agreement"),
    ],
)
def test_a_rule_reads_what_people_mean(kind: str, text: str, normalized: str | None) -> None:
    found = [match.normalized for match in finders()[kind](text)]

    assert found == ([normalized] if normalized else [])


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("SERVICES AGREEMENT\nThis Services Agreement is made", ["services agreement", "services agreement"]),
        ("AGENCY AGREEMENT THIS AGENCY AGREEMENT is made", ["agency agreement", "agency agreement"]),
        ("SUPPLY CONTRACT \n\nContract Order", ["supply contract", "contract order"]),
        ("LICENSE\nAGREEMENT", ["license agreement"]),
        ("This Lease is made", ["lease"]),
        ("FIRST AMENDMENT\n TO\nCREDIT AGREEMENT", ["first amendment to credit agreement"]),
    ],
)
def test_a_title_goes_on_over_a_line_end_but_not_into_the_first_sentence(text: str, titles: list[str]) -> None:
    assert [match.normalized for match in finders()["title"](text)] == titles


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("SUPPLY AGREEMENT\n1\nThe seller", "supply agreement"),
        ("SUPPLY AGREEMENT 1\n\nThe seller", "supply agreement"),
        ("SUPPLY AGREEMENT\n\xa0 1. Definitions", "supply agreement"),
        ("SECOND AMENDMENT\n2\n", "second amendment"),
        ("SUPPLY AGREEMENT NO. 1\n2\n", "supply agreement no. 1"),
        ("SUPPLY AGREEMENT\nNO. 1\n", "supply agreement no. 1"),
        ("AMENDMENT 2\n", "amendment 2"),
        ("WORK ORDER 12, dated", "work order 12"),
    ],
)
def test_the_number_of_a_page_or_section_is_no_part_of_a_title(text: str, title: str) -> None:
    assert [match.normalized for match in finders()["title"](text)] == [title]


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("$2.5B, £310m and $500k", ["USD 2500000000", "GBP 310000000", "USD 500000"]),
        ("$500 Million or $75 MILLION", ["USD 500000000", "USD 75000000"]),
        ("$1.2 tn, $3T and 5bn EUR", ["USD 1200000000000", "USD 3000000000000", "EUR 5000000000"]),
        ("€3,5 Mrd., 2 Millionen Euro", ["EUR 3500000000", "EUR 2000000"]),
        ("10 million US dollars, 5 U.S. dollars", ["USD 10000000", "USD 5"]),
        ("a cable of 5 m, 3 T or 5m for $5 m", ["USD 5"]),
        ("$5 MN tax, section 4b EUR 12.50", ["USD 5", "EUR 12.5"]),
        ("500T€", []),
    ],
)
def test_a_scale_counts_in_any_case_and_its_letter_only_next_to_a_sum(text: str, normalized: list[str]) -> None:
    assert [match.normalized for match in finders()["money"](text)] == normalized


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("1.200 €, 3.500 Euro, EUR 17.136", ["EUR 1200", "EUR 3500", "EUR 17136"]),
        ("Rp 150.000 or R$ 1.500", ["IDR 150000", "BRL 1500"]),
        ("$1.500 CLP", ["CLP 1500"]),
        ("$1.125 or £1.125 or CHF 1.125", ["USD 1.125", "GBP 1.125", "CHF 1.125"]),
        ("€1.125 per share, 1.125 EUR per ordinary share", ["EUR 1.125", "EUR 1.125"]),
        ("€1.125 million, 1.125 Mio. €", ["EUR 1125000", "EUR 1125000"]),
        ("€0.125, 1.25 €, 1234.567 €", ["EUR 0.125", "EUR 1.25", "EUR 1234.567"]),
    ],
)
def test_three_digits_behind_a_dot_are_thousands_where_people_write_a_decimal_comma(
    text: str, normalized: list[str]
) -> None:
    assert [match.normalized for match in finders()["money"](text)] == normalized


@pytest.mark.parametrize(
    ("kind", "text", "normalized"),
    [
        ("money", "-$500, −$500, $-500 and -500 €", ["USD -500", "USD -500", "USD -500", "EUR -500"]),
        ("money", "$100-$500 or 100-500 €", ["USD 100", "USD 500", "EUR 500"]),
        ("money", "five hundred dollars ($500)", ["USD 500", "USD 500"]),
        ("percentage", "-3%, −3% and -1/2%", ["-3", "-3", "-0.5"]),
        ("percentage", "2-3%, 2%-3% or non-5%", ["3", "2", "3", "5"]),
    ],
)
def test_a_minus_is_no_hyphen_of_a_range_or_a_word(kind: str, text: str, normalized: list[str]) -> None:
    assert [match.normalized for match in finders()[kind](text)] == normalized


@pytest.mark.parametrize(
    ("text", "normalized", "quotes"),
    [
        ("$2-3 million", ["USD 2000000"], ["$2-3 million"]),
        ("$2–3bn, $2-3k", ["USD 2000000000", "USD 2000"], ["$2–3bn", "$2-3k"]),
        ("$2.5 to 3 million CAD", ["CAD 2500000"], ["$2.5 to 3 million CAD"]),
        ("EUR 2-3 million", ["EUR 2000000"], ["EUR 2-3 million"]),
        ("$2-$3 million", ["USD 2000000", "USD 3000000"], ["$2", "$3 million"]),
        ("between $2 and $3 million", ["USD 2000000", "USD 3000000"], ["$2", "$3 million"]),
        ("a ticket of $2 and $3 million", ["USD 2", "USD 3000000"], ["$2", "$3 million"]),
        ("$500 to $2 million", ["USD 500", "USD 2000000"], ["$500", "$2 million"]),
        ("$500-2 million", ["USD 500"], ["$500"]),
        ("$2 million-$3 million", ["USD 2000000", "USD 3000000"], ["$2 million", "$3 million"]),
        ("$100-$500 or $100-500", ["USD 100", "USD 500", "USD 100"], ["$100", "$500", "$100"]),
    ],
)
def test_what_multiplies_the_upper_end_of_a_range_multiplies_the_lower(
    text: str, normalized: list[str], quotes: list[str]
) -> None:
    found = list(finders()["money"](text))

    assert [match.normalized for match in found] == normalized
    assert [text[match.start : match.end] for match in found] == quotes


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("up 3,125%", ["3125"]),
        ("up 3,125% from 2.5%", ["3125", "2.5"]),
        ("ein Zins von 3,125 % p.a.", ["3.125"]),
        ("ein Zins von 3,125 Prozent", ["3.125"]),
        ("zwischen 2,5% und 3,125%", ["2.5", "3.125"]),
        ("Entgelt 1.200,50 €, Zins 3,125%", ["3.125"]),
        ("up 3,125 % from 2.5 % to $1,200.50", ["3125", "2.5"]),
        ("1,250,000 % und 12,3456%", ["1250000", "12.3456"]),
        ("0,125%", ["0.125"]),
    ],
)
def test_a_share_of_thousands_is_one_of_thousandths_where_commas_are_seen_to_be_decimal(
    text: str, normalized: list[str]
) -> None:
    assert [match.normalized for match in finders()["percentage"](text)] == normalized


@pytest.mark.parametrize(
    ("text", "normalized", "quotes"),
    [
        ("$500 AUD", "AUD 500", ["$500 AUD"]),
        ("$500 CAD.", "CAD 500", ["$500 CAD"]),
        ("£500 EGP", "EGP 500", ["£500 EGP"]),
        ("US$500 CAD", "USD 500", ["US$500"]),
        ("€500 USD", "EUR 500", ["€500"]),
        ("$500 CAD 300", "USD 500", ["$500", "CAD 300"]),
        ("$500 AUD $300", "USD 500", ["$500", "AUD $300"]),
    ],
)
def test_a_code_behind_a_sum_says_what_its_sign_means(text: str, normalized: str, quotes: list[str]) -> None:
    found = list(finders()["money"](text))

    assert found[0].normalized == normalized
    assert [text[match.start : match.end] for match in found] == quotes


@pytest.mark.parametrize(
    ("kind", "text", "normalized"),
    [
        ("money", "one million two hundred thousand dollars", ["USD 1200000"]),
        ("money", "One Hundred Twenty-Five Thousand, Five Hundred and Six US Dollars", ["USD 125506"]),
        ("money", "two thousand million euros or a million yen", ["EUR 2000000000", "JPY 1000000"]),
        ("money", "five lakh rupees", ["INR 500000"]),
        ("money", "half a million dollars, a quarter of a million dollars", []),
        ("money", "Fifty and 00/100 Dollars ($50.00)", ["USD 50"]),
        ("duration", "one thousand two hundred days", ["P1200D"]),
        ("percentage", "1/2%, ½% and 2½ %", ["0.5", "0.5", "2.5"]),
        ("percentage", "2 1/2%, 3-1/4% and 66 2/3%", ["2.5", "3.25", "66.666667"]),
        ("percentage", "5/10%, 1/2/2%", ["10", "2"]),
        ("duration", "1/2 year or 1 1/2 years", ["P0.5Y", "P1.5Y"]),
        ("money", "three point five million dollars, ten point two five euros", ["USD 3500000", "EUR 10.25"]),
        ("money", "zero point five million dollars", ["USD 500000"]),
        ("duration", "one point five years", ["P1.5Y"]),
        ("percentage", "zero point seven five percent, three point one percent (3.1%)", ["0.75", "3.1"]),
        ("percentage", "1/2 of 1%, 1/2 of one percent and ½ of a percent", ["0.5", "0.5", "0.5"]),
        ("percentage", "one-half of one percent (0.5%), three quarters of 1 per cent", ["0.5", "0.75"]),
        ("percentage", "1/10th of 1%, one-hundredth of one percent", ["0.1", "0.01"]),
        ("percentage", "1/2 of 5%, half of 10%, 1/2 of 1.5%", ["5", "10", "1.5"]),
    ],
)
def test_numbers_of_several_words_and_fractions_are_one_number(kind: str, text: str, normalized: list[str]) -> None:
    assert [match.normalized for match in finders()[kind](text)] == normalized


@pytest.mark.parametrize(
    "text",
    [
        "RFC 2616, 10.4.10 and 10.1.12.5",
        "see Section 10.12.20, § 10.12.20 and Clause 3.5.21",
        "v1.2.10, v10.12.20, v1.2.2010 and Version 10.12.20",
        "at 10.12.20.5 or 192.168.10.12",
        "built on 1.2.10, update 3.10.12",
        "10.4.2010.5",
        "from 10.30.15 to 12:30:15",
        "call 555-12-10-20 or +49.30.12",
        "https://example.org/2020/03/15/page",
        "2020/13/01, 2020/02/30",
    ],
)
def test_numbers_of_sections_versions_and_addresses_are_no_dates(text: str) -> None:
    assert list(finders()["date"](text)) == []


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Rechnung vom 3.5.21", "2021-05-03"),
        ("dated 3.5.21.", "2021-05-03"),
        ("Rechnungsdatum: 3.5.21", "2021-05-03"),
        ("Date of issue: 3.5.21", "2021-05-03"),
        ("on Monday, 3.5.21", "2021-05-03"),
        ("Berlin, 03.05.21.", "2021-05-03"),
        ("Datum03.05.21", "2021-05-03"),
        ("Berlin, 3.5.2021.", "2021-05-03"),
    ],
)
def test_a_date_with_dots_and_a_short_year_has_two_digits_each_or_a_word_for_it(text: str, normalized: str) -> None:
    assert [match.normalized for match in finders()["date"](text)] == [normalized]


@pytest.mark.parametrize(
    ("text", "quote", "normalized"),
    [
        ("on 15-Mar-2020.", "15-Mar-2020", "2020-03-15"),
        ("17-Apr-24", "17-Apr-24", "2024-04-17"),
        ("15-MAR-2020T10:00", "15-MAR-2020", "2020-03-15"),
        ("[15/Jan/2024:10:11:12 +0000]", "15/Jan/2024", "2024-01-15"),
        ("2020/03/15 10:00", "2020/03/15", "2020-03-15"),
        ("le 1er janvier 2020", "1er janvier 2020", "2020-01-01"),
        ("1º de março de 2020", "1º de março de 2020", "2020-03-01"),
        ("1.º de enero del 2020", "1.º de enero del 2020", "2020-01-01"),
        ("于2020年3月15日签订", "2020年3月15日", "2020-03-15"),
        ("2020년 3월 15일", "2020년 3월 15일", "2020-03-15"),
    ],
)
def test_a_date_is_read_as_logs_and_other_languages_write_it(text: str, quote: str, normalized: str) -> None:
    [found] = finders()["date"](text)

    assert (text[found.start : found.end], found.normalized) == (quote, normalized)


def test_the_key_in_front_of_a_value_may_say_that_it_is_a_date() -> None:
    [row] = rows(task_of({"name": "day", "type": "date", "keys": ["Datum"]}), "Datum: 3.5.21\nSeite: 1\n")

    assert (row["quote"], row["normalized"]) == ("3.5.21", "2021-05-03")


@pytest.mark.parametrize("kind", RULES)
@given(parts=st.lists(st.one_of(st.sampled_from(SAMPLES), st.text(max_size=30)), max_size=8))
@settings(deadline=None, max_examples=40)
def test_whatever_a_rule_finds_stands_in_the_text(kind: str, parts: Sequence[str]) -> None:
    text = "".join(parts)
    before = 0
    for match in finders()[kind](text):
        assert before <= match.start < match.end <= len(text)
        assert text[match.start : match.end].strip() == text[match.start : match.end]
        assert json.loads(json.dumps(match.value)) == match.value
        assert 0 < match.weight <= 1
        before = match.start


def task_of(*fields: dict[str, Any]) -> Extract:
    schema = FieldSchema.model_validate({"fields": list(fields)})
    return extract.make({"name": "t", "schema": schema.model_dump(mode="json")})


def rows(task: Extract, text: str, window: int = 32, stride: int = 4) -> list[dict[str, Any]]:
    asked = Rehearsal(MemoryDocument((text,)), window, stride).play(task)
    return rows_of(asked, "extractions") if asked else []


def test_a_value_is_on_its_own_page_in_a_sentence_that_goes_on_over_two() -> None:
    pages = ("The fee of $100 and, from 3 March 2020 on, the\n", "rent of $200 are due on 4 March 2020. It rains.\n\n")
    task = task_of({"name": "sum", "type": "money", "cardinality": "every"}, {"name": "day", "type": "date"})
    asked = Rehearsal(MemoryDocument(pages, pages=(1, 2))).play(task, stops=range(9))
    found = rows_of(asked, "extractions")

    assert {(row["quote"], row["page"]) for row in found if row["field"] == "sum"} == {("$100", 1), ("$200", 2)}
    assert len({row["sentence_id"] for row in found}) == 1


NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
KINDS = st.sampled_from([kind for kind in RULES if kind not in ("number", "title")])
FIELDS = st.one_of(
    st.fixed_dictionaries({"type": KINDS, "cardinality": st.sampled_from(["one", "many", "every"])}),
    st.fixed_dictionaries(
        {"type": KINDS, "cues": st.lists(st.sampled_from(["dated", "between", "due", "the"]), min_size=1)}
    ),
    st.fixed_dictionaries({"type": st.just("text"), "keys": st.just(["Total", "Contact"])}),
    st.fixed_dictionaries({"type": st.sampled_from(["text", "clause"]), "patterns": st.just([r"\bgoverned by\b"])}),
    st.fixed_dictionaries({"type": st.just("text"), "values": st.just({"Acme": ["ACME Corp"], "buyer": []})}),
    st.fixed_dictionaries({"type": st.just("clause"), "description": st.sampled_from(["whose law governs", "fees"])}),
    st.fixed_dictionaries({"type": st.just("clause"), "description": st.just("pay"), "cues": st.just(["fees", "due"])}),
)


@given(
    fields=st.dictionaries(NAMES, FIELDS, min_size=1, max_size=5),
    parts=st.lists(st.one_of(st.sampled_from(SAMPLES), st.text(max_size=20)), min_size=1, max_size=30),
    window=st.sampled_from([8, 32, 256]),
)
@settings(deadline=None, max_examples=60)
def test_every_row_of_any_schema_quotes_the_text_and_fits_the_schema(
    fields: dict[str, dict[str, Any]], parts: Sequence[str], window: int
) -> None:
    text = "".join(parts).encode("utf-8", "ignore").decode()
    task = task_of(*({"name": name, **field} for name, field in fields.items()))

    for row in rows(task, text, window):
        field = fields[row["field"]]
        assert text[row["char_start"] : row["char_end"]] == row["quote"] != ""
        assert row["valid"] and row["alignment"] == "exact" and row["method"] in ("rule", "span")
        assert 0 <= row["confidence"] <= 1
        value = json.loads(row["value"])
        if field["type"] == "date" and len(value) == 10:
            assert date.fromisoformat(value)
        elif field["type"] == "money":
            assert set(value) == {"amount", "currency"} and math.isfinite(float(value["amount"]))
        elif "values" in field:
            assert value in field["values"]
        else:
            assert isinstance(value, str | int | float)


@given(
    parts=st.lists(st.sampled_from(SAMPLES), min_size=40, max_size=120),
    windows=st.tuples(st.sampled_from([8, 16, 64]), st.sampled_from([128, 512])),
)
@settings(deadline=None, max_examples=8)
def test_rows_do_not_depend_on_how_much_is_read_at_once(parts: Sequence[str], windows: tuple[int, int]) -> None:
    schema = default_schema().model_dump(mode="json")
    schema["fields"].append({"name": "law", "type": "clause", "description": "whose law governs"})
    task = extract.make({"name": "t", "schema": schema})

    few, many = (rows(task, "".join(parts), window) for window in windows)
    assert few == many and few


@pytest.mark.parametrize("shift", range(-40, 41, 5))
def test_a_value_at_a_seam_is_found_once_and_whole(shift: int) -> None:
    before = "word " * ((CORE_CHARS + shift) // 5)
    text = before + "on January 5, 2020 in Rome. " + "word " * 800
    found = rows(task_of({"name": "day", "type": "date", "cardinality": "every"}), text)

    assert [row["quote"] for row in found] == ["January 5, 2020"]


def test_a_value_that_goes_over_a_line_and_a_sentence_end_is_whole() -> None:
    found = rows(task_of({"name": "sum", "type": "money"}), "It is US$\n2.5 million. More. Rs. 500 is due.")

    assert {row["quote"] for row in found} == {"US$\n2.5 million", "Rs. 500"}


def test_a_field_with_many_values_lists_each_once_in_the_order_of_the_text() -> None:
    text = "Due 2020-01-02, 2020-01-01 and January 2, 2020. " * 200
    found = rows(task_of({"name": "day", "type": "date", "cardinality": "many"}), text)

    assert [row["normalized"] for row in found] == ["2020-01-02", "2020-01-01"]
    assert found[0]["char_start"] == text.index("2020-01-02")


def test_a_field_with_one_value_keeps_what_contradicts_it_behind_it() -> None:
    field = {"name": "made", "type": "date", "cues": ["dated as of"]}
    text = "Filed 2021-05-05. " + "Nothing. " * 40 + "Dated as of 2020-01-01. Also dated as of 2020-02-02. "
    found = rows(task_of(field), text)

    assert [row["normalized"] for row in found] == ["2020-01-01", "2020-02-02"]


def test_a_value_out_of_its_limits_or_too_unsure_is_left_out() -> None:
    text = "Fees of $5, $50 and $500. "
    within = task_of({"name": "fee", "type": "money", "cardinality": "many", "minimum": 10, "maximum": 100})
    sure = task_of({"name": "fee", "type": "money", "cardinality": "many", "min_confidence": 0.99})

    assert [row["normalized"] for row in rows(within, text)] == ["USD 50"]
    assert rows(sure, text) == []


def test_a_clause_described_in_words_is_the_sentence_that_has_them() -> None:
    filler = "The captain keeps a wooden box of letters below his berth. " * 60
    clause = "Neither party may assign this agreement without consent. "
    task = task_of({"name": "assignment", "type": "clause", "description": "assignment of the agreement with consent"})
    [row] = rows(task, filler + clause + filler)

    assert row["quote"] == clause.strip()
    assert row["method"] == "span"


def test_a_clause_with_cues_goes_by_them_and_asks_for_no_vectors() -> None:
    filler = "The agreement of the parties says what the captain keeps in a wooden box of letters below. " * 60
    clause = "No customer of the other may be solicited or enticed away. "
    field = {"name": "peace", "type": "clause", "description": "what the agreement of the parties says"}
    cued = task_of(field | {"cues": ["solicit", "entice", "customer"]})
    [row] = rows(cued, filler + clause + filler)

    assert row["quote"] == clause.strip()
    assert not cued.wants_vectors and task_of(field).wants_vectors


def test_a_clause_that_is_not_there_is_not_quoted() -> None:
    task = extract.make({"name": "t", "schema": {"fields": shipped.options_of("clauses")}})

    assert rows(task, "The captain keeps a wooden box of letters below his berth. " * 100) == []


def test_a_pattern_that_takes_too_long_fails_its_document_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.fields.finding.PATTERN_SECONDS", 0.05)
    task = task_of({"name": "slow", "type": "text", "patterns": [r"(a+a+)+b"]})

    with pytest.raises(DocumentError, match="slow"):
        rows(task, "a" * 3000 + "c")


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_never_means_less_confidence(first: float, second: float) -> None:
    low, high = sorted((first, second))
    for points in (RULE_POINTS, RANKED_POINTS, CUED_POINTS):
        assert 0 <= confidence(low, points) <= confidence(high, points) <= 1


def test_json_schema_becomes_fields() -> None:
    schema = {
        "type": "object",
        "properties": {
            "signed": {"type": "string", "format": "date", "x-unspool": {"cues": ["signed"]}},
            "mails": {"type": "array", "items": {"type": "string", "format": "email"}},
            "party": {"type": "object", "properties": {"country": {"enum": ["France", "Italy"]}}},
            "number": {"type": "string", "pattern": "^INV-[0-9]+$"},
            "law": {"type": "string", "description": "whose law governs"},
        },
    }
    fields = FieldSchema.model_validate(from_json_schema(schema)).fields
    found = rows(task_of(*(field.model_dump(mode="json") for field in fields)), "Signed 2020-01-01 in Italy: INV-7.")

    assert [(field.name, field.type, field.cardinality) for field in fields] == [
        ("signed", "date", "one"),
        ("mails", "email", "many"),
        ("party.country", "text", "one"),
        ("number", "text", "one"),
        ("law", "clause", "one"),
    ]
    assert {row["field"]: json.loads(row["value"]) for row in found if row["field"] != "law"} == {
        "signed": "2020-01-01",
        "party.country": "Italy",
        "number": "INV-7",
    }


PROPERTIES = st.sampled_from(
    [
        {"type": "string", "format": "date"},
        {"type": ["number", "null"], "minimum": 3},
        {"type": "integer", "maximum": 2000},
        {"enum": ["Acme", "Rome", None]},
        {"const": "fees"},
        {"type": "string", "pattern": "^[A-Z][a-z]+ (?:Ltd|Inc)$"},
        {"type": "string", "description": "whose law governs", "maxLength": 40},
        {"anyOf": [{"$ref": "#/$defs/mail"}, {"type": "null"}]},
    ]
)


@given(
    wanted=st.dictionaries(NAMES, st.tuples(PROPERTIES, st.booleans()), min_size=1, max_size=5),
    parts=st.lists(st.one_of(st.sampled_from(SAMPLES), st.text(max_size=20)), min_size=1, max_size=20),
)
@settings(deadline=None, max_examples=60)
def test_what_is_found_for_a_json_schema_is_valid_against_it_and_stands_in_the_text(
    wanted: dict[str, tuple[dict[str, Any], bool]], parts: Sequence[str]
) -> None:
    properties = {name: {"type": "array", "items": one} if many else one for name, (one, many) in wanted.items()}
    schema = {"properties": properties, "$defs": {"mail": {"type": "string", "format": "email"}}}
    fields = FieldSchema.model_validate(from_json_schema(schema)).fields
    text = "".join(parts).encode("utf-8", "ignore").decode()

    found: dict[str, Any] = {}
    for row in rows(task_of(*(field.model_dump(mode="json") for field in fields)), text):
        assert text[row["char_start"] : row["char_end"]] == row["quote"]
        value = json.loads(row["value"])
        if wanted[row["field"]][1]:
            found.setdefault(row["field"], []).append(value)
        else:
            jsonschema.validate({row["field"]: value}, schema)
    jsonschema.validate(found, schema)


def test_a_schema_may_be_a_pydantic_model_with_models_in_it() -> None:
    class Line(BaseModel):
        amount: Decimal

    class Order(BaseModel):
        """What was ordered."""

        due: date | None = None
        lines: list[Line]
        state: Literal["paid", "open"]

    task = ExtractTask.model_validate({"name": "t", "type": "extract", "schema": Order})
    fields = task.fields_.fields

    assert [(field.name, field.type, field.cardinality) for field in fields] == [
        ("due", "date", "one"),
        ("lines.amount", "number", "many"),
        ("state", "text", "one"),
    ]


def test_a_schema_that_is_nested_in_itself_or_refers_to_nothing_is_refused() -> None:
    itself = {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"properties": {"a": {"$ref": "#/$defs/a"}}}}}
    for schema in (itself, {"properties": {"a": {"$ref": "#/$defs/b"}}}, {"properties": {"a": {"enum": [1, 2]}}}):
        with pytest.raises(ValueError, match="property 'a"):
            from_json_schema(schema)


@pytest.mark.parametrize("name", ["Total", "Grand total", "Amount due", "Balance Due", "Total due"])
@pytest.mark.parametrize("part", ["Subtotal", "Sub-total"])
def test_a_subtotal_is_not_the_total(name: str, part: str) -> None:
    total = next(field for field in shipped.options_of("invoice") if field["name"] == "total")
    for lines in ((f"{part}: EUR 500", "VAT: EUR 100", f"{name}: EUR 600"), (f"{name}: EUR 600", f"{part}: EUR 500")):
        assert rows(task_of(total), "\n".join((*lines, "")))[0]["normalized"] == "EUR 600"
