"""Composes messages for people: a subject on one line, plain text, and HTML with the same content. Pure."""

import re
from collections.abc import Sequence

from markupsafe import Markup

from shared.models import View

SUBJECT_LONGEST = 150  # characters that mail programs and phones show of a subject
TEXT_LONGEST = 2000
EXCERPT_LONGEST = 4096
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Fact = tuple[str, str]


class Message(View):
    """Holds subject, text and HTML of a message. The HTML uses only tags that chat services also support: p, b, br,
    pre, a.
    """

    subject: str
    text: str
    html: str


def compose(
    subject: str, texts: Sequence[str], facts: Sequence[Fact], link: str, *, excerpt: str = "", excerpt_of: str = ""
) -> Message:
    """Returns a message composed of a subject, sentences (each of `texts` is a paragraph), facts (label and value) and
    a link. Facts without a value are left out. `excerpt` holds log lines, which the message shows under the heading
    `excerpt_of`. The excerpt is cut to 4096 characters, each of `texts` to 2000. The text does not repeat the subject,
    because many services show the subject above it. All arguments may contain text from outside, so they are escaped in
    the HTML, and control characters are removed.
    """
    subject = on_one_line(subject)
    texts = [cleaned(each)[:TEXT_LONGEST] for each in texts if each.strip()]
    facts = [(label, on_one_line(value)) for label, value in facts if value]
    excerpt = cleaned(excerpt)[:EXCERPT_LONGEST].rstrip()
    width = max((len(label) for label, _ in facts), default=0)
    text = [*texts, "\n".join(f"{label:<{width}}  {value}" for label, value in facts)]
    html = [Markup("<p>{}</p>").format(each) for each in texts]
    if facts:
        lines = [Markup("<b>{}</b> {}").format(label, value) for label, value in facts]
        html.append(Markup("<p>{}</p>").format(Markup("<br>").join(lines)))
    if excerpt:
        text.append(f"{excerpt_of}:\n\n" + "\n".join(f"    {line}".rstrip() for line in excerpt.splitlines()))
        html.append(Markup("<p>{}:</p>\n<pre>{}</pre>").format(excerpt_of, excerpt))
    text.append(link)
    html.append(Markup('<p><a href="{}">{}</a></p>').format(link, link))
    return Message(
        subject=subject,
        text="\n\n".join(part for part in text if part) + "\n",
        html=str(Markup("\n").join(html)) + "\n",
    )


def signed(message: Message, delivery_id: str) -> Message:
    """Returns the message with the delivery's id appended, by which a person can recognise a duplicate."""
    line = f"Slipway, delivery {delivery_id}"
    return Message(
        subject=message.subject,
        text=f"{message.text}\n-- \n{line}\n",
        html=message.html + str(Markup("<p>{}</p>\n").format(line)),
    )


def on_one_line(text: str) -> str:
    """Returns the text on one line, cut to 150 characters; a line break would end a mail's header."""
    line = " ".join(cleaned(text).split())
    return line if len(line) <= SUBJECT_LONGEST else line[: SUBJECT_LONGEST - 1] + "…"


def cleaned(text: str) -> str:
    """Returns the text without terminal colours and without control characters, except tabs and line feeds. Characters
    that UTF-8 cannot encode become `?`.
    """
    return CONTROL.sub("", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode()
