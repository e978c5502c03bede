"""Texts that break tokenizers and decoders, and random ones: our own collection, of Unicode and of plain text."""

from __future__ import annotations

import random

NAUGHTY = [
    "",
    "\x00",
    "a\x00b\x00\x00c",
    "\x00" * 1000,
    "".join(map(chr, range(256))),
    "\r\r\n\n\r\n\t\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029",
    " \u00a0\u1680\u2000\u2009\u200a\u202f\u205f\u3000 ",  # all sorts of blanks
    "zero\u200bwidth\u200cjoin\u200ders\u2060and\ufeffmarks",
    "\ufeffa byte order mark first",
    "\ufffd\ufffe\uffff\U0001fffe\U0010ffff",
    "\ue000\uf8ff\U000f0000",  # private use
    "👨‍👩‍👧‍👦👩🏽‍🚀🏳️‍🌈🏴‍☠️🇩🇪🇯🇵🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "👍🏻👍🏼👍🏽👍🏾👍🏿 1️⃣ ©️ ™️ ❤️❤︎",
    "שלום עולם, مرحبا بالعالم 123 \u200fRTL\u200e \u202eoverride\u202c \u2067isolate\u2069",
    "بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ ٱلرَّحِيمِ ﷽",
    "Z\u0351\u036b\u0343a\u0363\u034al\u0369\u0310g\u0342\u030do\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307",
    "e" + "\u0301" * 500,  # one character with five hundred accents
    "e\u0301 é ﬁ ﬀ Å Å ｱ ㈱ ½ ² ℌ",  # what normalisers change
    "한국어 조합: \u1112\u1161\u11ab 한 각",
    "İstanbul ıi ß ẞ ǆ Σσς",  # case pairs that are none
    "ด้้้้้็็็็็้้้้้็็็็็ क्ष्म ক্ষ ஸ்ரீ",
    "文字化け 縺ゅ＞縺・∴縺 Ã©Ã¼",
    "𝕋𝕙𝕖 𝓺𝓾𝓲𝓬𝓴 𝖇𝖗𝖔𝖜𝖓 𝚏𝚘𝚡 ⓕⓐⓝⓒⓨ ʇxǝʇ",
    "𒀀𒁉 𓀀𓁐 𐍈 𝄞 ꧁꧂ ﷲ",
    "NaN null undefined true 1e400 -0 0x7f 0b1 1_000 ١٢٣ ⅷ",
    "'; DROP TABLE x; -- \" ' ` \\ \\\\ \\0 %s %n {0} ${HOME} {{x}}",
    "<script>alert(1)</script> &lt;&#0; <!-- --> ]]> <![CDATA[",
    "../../etc/passwd CON NUL C:\\ file:///",
    "<|endoftext|><|padding|><s></s>[PAD1]<unk>[UNK]<pad>",
    "User: hi\n\nAssistant: <think>\n\n</think>\n\nSystem:",
    "✿prefix✿✿suffix✿",
    "()[]{}<>" * 64,
    "-" * 4097,
    " " * 4095 + "x",
    "\n" * 1025,
    "\t" * 300 + "\n\t" * 300,
    "a" * 5000,
    "aaaaaaaab" * 300,
    "ab" * 2049,
    "é" * 3000,
    "🙂" * 2000,
    "。\n\n" * 700,
    "0123456789" * 300,
    "The quick brown fox" * 200,
]

LONE_SURROGATES = ["\ud800", "\udfff", "a\udc80b", "\ud83d", "\ude42\ud83d", "x" * 5000 + "\udcff"]
"""No Unicode text: these must be refused."""

_RANGES = [
    (0, 0x80),
    (0, 0x80),
    (0x80, 0x800),
    (0x800, 0xD800),
    (0x3000, 0xA000),
    (0x1F000, 0x1FB00),
    (0xE000, 0x110000),
]
_PIECES = [" the", "ing", "\n\n", "    ", "。\n", "User:", "e\u0301", "\r\n", " " * 40, "=" * 30, "000"]


def random_texts(count: int, longest: int, seed: int) -> list[str]:
    """Texts of up to `longest` characters or pieces from all of Unicode, each from one or several scripts."""
    draw = random.Random(seed)
    return [_random_text(draw, longest) for _ in range(count)]


def _random_text(draw: random.Random, longest: int) -> str:
    ranges = draw.choices(_RANGES, k=draw.randint(1, 3))
    return "".join(
        draw.choice(_PIECES) if draw.random() < 0.1 else chr(draw.randrange(*draw.choice(ranges)))
        for _ in range(draw.randint(0, longest))
    )
