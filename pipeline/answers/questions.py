"""What a question asks for: its words, the kind of answer it wants, and the kinds of values that such an answer holds.

Kinds are told by the question's wording, in English; of other languages a question is its words alone. Knows nothing of
texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipeline.retrieval.terms import STOP_WORDS, Terms

ABOUT: Final = "about"
DEFINITION: Final = "what is"
ROLE: Final = "who is the"
YES_NO: Final = "yes or no"
REASON: Final = "why, how"
NAME: Final = "name"
"""The type of a person, a company or a place, which no rule of `extract` finds alone."""

_DOCUMENT: Final = (
    r"(?:document|text|file|page|paper|article|report|book|novel|story|stories|agreement|contract|invoice|bill|receipt|"
    r"letter|e-?mail|message|note|specification|standard|rfc|law|act|meeting|transcript|chapter|section|passage|form)"
)
_ASKING: Final = re.compile(
    rf"\b(?:(?:in|of|from|by|according to) )?(?:this|these|the whole|the entire|the given) {_DOCUMENT}\b|"
    r"\b(?:in|of|from|by|according to) the (?:document|text|file|page|story|stories|book)\b|"
    r"\bhow (?:much|many|long|often|old|large|big|high|far|soon)\b|"
    r"\b(?:summari[sz]e\w*|says?|said|mention(?:s|ed)?|describe\w*|discuss\w*|explain\w*|stated?|states|tell|give|list|"
    r"please|there|thinks?|about|according|happen(?:s|ed)?|like|\(are\))(?!\w)",
    re.IGNORECASE,
)
_ABOUT: Final = re.compile(
    r"\b(?:about|summary|summari[sz]e|overview|gist|plot|topics?|subject|main (?:point|idea|theme)s?|this|say|cover|"
    r"deal)\b",
    re.IGNORECASE,
)
_ABOUT_WORDS: Final = re.compile(
    r"\b(?:about|summary|overview|gist|plot|topics?|subject|main|point|idea|theme|cover|deal|whole|short|brief|"
    rf"{_DOCUMENT})s?\b",
    re.IGNORECASE,
)
_ROLES: Final = (
    "seller|buyer|vendor|supplier|customer|client|lender|borrower|landlord|tenant|author|issuer|agent|guarantor|licensor|"
    "licensee|parties"
)
_SUMS: Final = (
    "price|costs?|fees?|total|subtotal|amount|sum|balance|rent|salary|payment|budget|tax|vat|discount|revenue|charges?"
)
_WHERE: Final = "country|city|place|state|address|location|locker|room"
_THING: Final = (
    r"(?:the (?-i:(?=[A-Z])))?(?!the |your |my |its )[\w'’().,/-]+(?: (?!(?:of|for|in|to)\b)[\w'’().,/-]+){0,7}"
)
_KINDS: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("identifier", (r"\be-?mail(?: address)?\b",), ("email",)),
    ("identifier", (r"\b(?:website|web (?:site|page|address)|url|link)\b",), ("url",)),
    ("identifier", (r"\biban\b|\baccount number\b",), ("iban", "identifier")),
    (
        "identifier",
        (
            r"\b(?:numbers? of the|[a-z]+ (?:number|no\.|id|code|reference)\b(?! of))",
            r"\b(?:isbn|doi|gstin|vat id)\b",
        ),
        ("identifier",),
    ),
    (
        "when",
        (
            r"^(?:since |until |by |from )?when\b",
            r"\b(?:what|which|the|on what) (?:\w+ ){0,3}(?:date|day|year|month|deadline)\b|\bdate of\b",
        ),
        ("date",),
    ),
    (
        "how long",
        (
            r"\bhow long\b|\bhow many (?:days|weeks|months|years|hours|minutes)\b|\bhow (?:soon|quickly|fast)\b",
            r"\bwhat (?:\w+ ){1,3}(?:duration|(?:notice )?period|deadline)\b|\bfor what (?:time|period|term)\b",
        ),
        ("duration", "date"),
    ),
    (
        "how much",
        (r"\bhow much\b", rf"\b(?:{_SUMS})\b(?! (?:date|period|due date|method|terms?|card))"),
        ("money", "percentage", "number"),
    ),
    (
        "how much",
        (r"\b(?:what|which) (?:\w+ ){0,3}(?:percentage|per ?cent|share|rate|interest)\b",),
        ("percentage", "number"),
    ),
    (
        "how many",
        (
            r"\bhow (?:many|often|big|large|tall|high|deep|far|old|heavy|wide|common|frequent)\b",
            r"\b(?:what|which) (?:is the |was the )?(?:number|size|length|height|population|area|maximum|minimum)\b",
        ),
        ("number", "percentage", "duration", "money"),
    ),
    (DEFINITION, (r"^who (?:is|was|are|were) (?-i:[A-Z])",), ()),
    (ROLE, (r"^who (?:is|are|was|were) (?:the|its) \w+(?: \w+)?\W*$",), ("party", NAME)),
    (
        "who",
        (
            r"^(?:by |to |for |from |with )?who(?:m|se)?\b|\bname of\b",
            r"\b(?:what|which) (?:compan(?:y|ies)|person|people|part(?:y|ies)|bank|organi[sz]ation)\b",
            rf"\b(?:the|its|is) (?:{_ROLES})\b",
        ),
        ("party", NAME),
    ),
    ("where", (r"^(?:to |from |in |at )?where\b", rf"\b(?:what|which) (?:\w+ )?(?:{_WHERE})\b"), (NAME,)),
    (
        DEFINITION,
        (
            r"^what(?:'s| is| are| was| were) (?:meant by|an?) ",
            r"\bwhat does .+ (?:mean|stand for)\b|\bdefin(?:e|ed|ition)\b|\bmeaning of\b",
            rf"^what(?:'s| is| are| was| were)(?: \(are\))? {_THING}\W*$",
        ),
        (),
    ),
    (REASON, (r"^(?:why|how)\b", r"\bwhat (?:causes?|reasons?)\b"), ()),
    (YES_NO, (r"^(?:is|are|was|were|does|do|did|can|could|has|have|had|may|must|will|would|should)\b",), ()),
)
"""The kinds of questions, the first that fits counts: a name, wordings of it, and the types of values wanted."""

_SHORT: Final = 2
_TAIL: Final = re.compile(
    r"\b(?:of|for|in|on|by|about|to|from|with|at|between|during|under|does|do|did|if|when)\b", re.IGNORECASE
)
_ENGLISH: Final = re.compile(
    r"(?:what|which|who|when|where|how|why|is|are|does|do|did|can|may|in which)\b", re.IGNORECASE
)
_NAME: Final = re.compile(r"(?<=[\w,] )(?:[A-Z]|(?=\w*\d))[\w’'-]+")
_PATTERNS: Final = tuple(
    (kind, re.compile("|".join(wordings), re.IGNORECASE), types) for kind, wordings, types in _KINDS
)


@dataclass(frozen=True)
class Question:
    """A question: its text, its `terms` without words that only ask, its kind, and the `types` of values it wants.

    `head` are those of the terms that say what is wanted (the capital …), the others what it is wanted of (… of Chad);
    `names` are those written with a capital letter.
    """

    text: str
    terms: tuple[str, ...]
    head: tuple[str, ...]
    names: tuple[str, ...]
    kind: str
    types: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """Its words of more than a few letters, in small ones."""
        return [word for word in re.findall(r"\w+", self.text.lower()) if len(word) > _SHORT and word not in STOP_WORDS]

    @classmethod
    def of(cls, text: str, terms: Terms) -> Question:
        """A question in words."""
        asked = " ".join(text.split())
        if _ENGLISH.match(asked):
            terms = _without_stop_words(terms)
        found = tuple(dict.fromkeys(terms(_ASKING.sub(" ", asked))))
        if _ABOUT.search(asked) and not terms(_ABOUT_WORDS.sub(" ", _ASKING.sub(" ", asked))):
            return cls(asked, (), (), (), ABOUT, ())
        kind, types = _kind(asked)
        found = found or tuple(dict.fromkeys(terms(asked)))
        return cls(asked, found, _head(_ASKING.sub(" ", asked), terms) or found, _names(asked, terms), kind, types)


def _without_stop_words(terms: Terms) -> Terms:
    """English words that say nothing are dropped from an English question on a text in another language, too."""
    return lambda text: terms(" ".join(word for word in text.split() if word.lower() not in STOP_WORDS))


def _head(asked: str, terms: Terms) -> tuple[str, ...]:
    """The terms before the first small word that has some before it."""
    for small in _TAIL.finditer(asked):
        if head := terms(asked[: small.start()]):
            return tuple(dict.fromkeys(head))
    return ()


def _names(asked: str, terms: Terms) -> tuple[str, ...]:
    return tuple(dict.fromkeys(terms(" ".join(_NAME.findall(asked)))))


def _kind(asked: str) -> tuple[str, tuple[str, ...]]:
    return next(((kind, types) for kind, pattern, types in _PATTERNS if pattern.search(asked)), ("other", ()))
