"""Texts as people write them, in many scripts, for property tests."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

checked = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=200,
    suppress_health_check=list(HealthCheck),
)
"""The same examples in every run, however busy the machine is."""

LETTERS = (
    "abcxyzABCXYZ0123456789äöüßéñçøłđæþıİŉſÅǅﬁ½²ª"
    "жйёЪ"
    + "σςΆῼ"
    + "אבגשׁ"
    + "أحمدىُ٣"
    + "हिन्दी"
    + "ไทยกินำ"
    + "日本語の犬々〇"
    + "カヵがぱーﾊﾟﾝ"
    + "한국어ᄒ"
)
MARKS = "\u0301\u0308\u0327\u3099\u200d\u200c\u00ad\ufe0f\u20e3\u200b\u0338"
SYMBOLS = "👍🏽❤→™®€£×∞°♯🇩🇪№㎏\ue000\U0001fad9"
PUNCTUATION = "-_./\\+@&#~=%:*$^'’\"“”,;!?()[]{}<>|`、。・，（）「」…–—−"
SPACES = " \t\n\u00a0\u3000"

characters = st.one_of(
    st.sampled_from(LETTERS),
    st.sampled_from(LETTERS),
    st.sampled_from(MARKS + SYMBOLS + PUNCTUATION + SPACES),
    st.characters(codec="utf-8", exclude_characters="\0"),
)
pieces = st.one_of(
    st.text(characters, min_size=1, max_size=8),
    st.sampled_from(
        ["the", "or", "not", "dogs", "t-shirt", "AC/DC", "C++", "2019-05-06", "plain-name.jpg"]
    ),
)
texts = st.lists(pieces, min_size=1, max_size=5).map(" ".join)
