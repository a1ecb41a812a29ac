"""A message has a subject on one line, a text, and HTML with the same content."""

from services.monitor.notify.message import SUBJECT_LONGEST, compose, on_one_line, signed

EVIL = 'a<script>alert("x")</script>'


def test_text_and_html_say_the_same() -> None:
    message = compose(
        "It failed",
        ["Badly.", ""],
        [("app", "notes"), ("commit", "")],
        "http://b/1",
        excerpt="x = 1\n",
        excerpt_of="Log",
    )
    assert message.text == "Badly.\n\napp  notes\n\nLog:\n\n    x = 1\n\nhttp://b/1\n"
    for words in ("Badly.", "<b>app</b> notes", "<pre>x = 1</pre>", '<a href="http://b/1">'):
        assert words in message.html
    assert "commit" not in message.html
    assert message.subject == "It failed"


def test_whatever_comes_from_outside_is_escaped() -> None:
    message = compose(EVIL, [EVIL], [(EVIL, EVIL)], f"http://{EVIL}", excerpt=EVIL, excerpt_of=EVIL)
    assert "<script>" not in message.html
    assert message.html.count("&lt;script&gt;") == 7
    assert EVIL in message.text


def test_a_subject_is_one_short_line() -> None:
    message = compose("gate\r\nBcc: eve@example.com\x1b[31m red\x1b[0m " + "x" * 500, [], [], "http://b")
    assert message.subject.startswith("gate Bcc: eve@example.com red xxx")
    assert len(message.subject) == SUBJECT_LONGEST
    assert on_one_line("a\nb\u2028c\x00") == "a b c"


def test_control_characters_of_a_log_go_and_its_indentation_stays() -> None:
    message = compose("s", [], [], "http://b", excerpt="\x1b[1mE\x1b[0m\tx\x07\r\n  y\ud800", excerpt_of="Log")
    assert "    E\tx\n      y?" in message.text
    message.html.encode()


def test_a_message_stays_below_what_a_mail_may_have_through_apprise() -> None:
    message = compose('"' * 999, ['"' * 9999], [("log", '"' * 999)], "http://b", excerpt='"' * 99_999, excerpt_of="Log")
    assert len(message.html) < 32_768


def test_a_signed_message_bears_the_delivery_s_id_twice() -> None:
    message = signed(compose("s", [], [], "http://b"), "d1e2")
    assert message.text.endswith("-- \nSlipway, delivery d1e2\n")
    assert "delivery d1e2" in message.html
