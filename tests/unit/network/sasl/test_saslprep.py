"""SASLprep against the examples of RFC 4013, section 3, and its rules."""

from __future__ import annotations

import pytest

from aioproducer.network.sasl.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\N{SOFT HYPHEN}X", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\N{FEMININE ORDINAL INDICATOR}", "a"),
        ("\N{ROMAN NUMERAL NINE}", "IX"),
        ("a\N{NO-BREAK SPACE}b", "a b"),
        ("", ""),
        ("\N{SOFT HYPHEN}", ""),
        (
            "\N{ARABIC LETTER ALEF}1\N{ARABIC LETTER BEH}",
            "\N{ARABIC LETTER ALEF}1\N{ARABIC LETTER BEH}",
        ),
    ],
)
def test_texts_that_look_the_same_become_the_same(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\x07", r"U\+0007"),
        ("\N{ARABIC LETTER ALEF}1", "begin and end"),
        ("a\N{ARABIC LETTER ALEF}", "left and from right"),
        ("\U0001f600", r"U\+1F600"),  # not assigned in Unicode 3.2
        ("\ue000", r"U\+E000"),
    ],
)
def test_what_is_prohibited_is_refused_without_showing_the_text(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        saslprep(f"{text}" if text.startswith("\N{ARABIC LETTER ALEF}") else f"secret{text}")
    assert "secret" not in str(caught.value)
