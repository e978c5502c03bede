"""The guess at a language: right for plain prose, the same for the same text, and English where nothing tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.language import detect_language

SAMPLES = {
    "en": "The captain said that he would not sail in this weather, but the men were of another mind.",
    "de": "Der Kapitän sagte, dass er bei diesem Wetter nicht mit dem Schiff auf das Meer fahren werde.",
    "fr": "Le capitaine ne voulait pas partir avec les hommes dans la tempête, et il est resté sur le quai.",
    "es": "El capitán dijo que no se iba a navegar con el mal tiempo, pero los hombres no estaban de acuerdo.",
    "pt": "O capitão não quis sair com o mau tempo, mas os homens disseram que não era uma boa razão para ficar.",
    "it": "Il capitano non voleva partire con il cattivo tempo, ma gli uomini della nave sono di un altro parere.",
    "nl": "De kapitein zei dat hij niet met het schip op zee ging in dit weer, maar de mannen van het schip wel.",
    "ru": "Капитан сказал, что он не выйдет в море в такую погоду.",
    "el": "Ο καπετάνιος είπε ότι δεν θα σαλπάρει με αυτόν τον καιρό.",
    "ja": "船長はこの天気では出航しないと言った。",
    "zh": "船长说他不会在这种天气出海。",
    "ko": "선장은 이런 날씨에 출항하지 않겠다고 말했다.",
    "he": "הקפטן אמר שהוא לא יפליג במזג אוויר כזה.",
    "ar": "قال القبطان إنه لن يبحر في هذا الطقس.",
    "hi": "कप्तान ने कहा कि वह इस मौसम में नहीं जाएगा।",
    "hy": "Նավապետն ասաց, որ այս եղանակին նավ դուրս չի գա։",
    "my": "ဒီရာသီဥတုမှာ ရွက်မလွှင့်ဘူးလို့ ကပ္ပတိန်က ပြောတယ်။",
    "am": "ካፒቴኑ በዚህ አየር ሁኔታ አንጓዝም አለ።",
    "th": "กัปตันบอกว่าเขาจะไม่ออกเรือในสภาพอากาศเช่นนี้",
}


@pytest.mark.parametrize("language", SAMPLES)
def test_a_sentence_of_plain_prose_is_recognised(language: str) -> None:
    assert detect_language(SAMPLES[language]) == language


@pytest.mark.parametrize("language", SAMPLES)
def test_capitals_numbers_and_a_quotation_in_english_do_not_matter(language: str) -> None:
    sample = SAMPLES[language]
    assert detect_language(f"12. {sample.upper()} {sample} {sample} “Call me Ishmael.” 3.14") == language


@pytest.mark.parametrize("sample", ["", "   ", "12345 !!", "xyzzy plugh", "🙂🙂"])
def test_what_tells_nothing_is_taken_for_english(sample: str) -> None:
    assert detect_language(sample) == "en"


@given(sample=st.text(max_size=200))
def test_any_text_has_a_known_language(sample: str) -> None:
    assert detect_language(sample) in SAMPLES
