"""That the corpus and the real payloads for measuring have nothing in common: `python3 -m unittest test_overlap`.

EVALUATION names the file of real payloads, and `reserved.txt` lies beside it; without it the tests are skipped. Needs
only the standard library.
"""

from __future__ import annotations

import json
import os
import re
import unittest
from pathlib import Path
from typing import Any

import generate
import reserved

HERE = Path(__file__).resolve().parent
EVALUATION = os.environ.get("EVALUATION", "")
#: Texts shorter than this are phrases that everybody writes.
LONG = 40
#: Texts that providers write into every such webhook themselves, read one by one: names of GitHub's settings and an
#: address of its API, two phrases of PayPal, an answer of Gmail's server, an address of Meta's documentation.
PROVIDERS_OWN = frozenset(
    {
        "linear history requirement enforcement level",
        "required status checks enforcement level",
        "https api github com installation repositories",
        "get the merchant status information of merchants onboarded by this partner",
        "item not received eligible unauthorized payment eligible",
        "550 5 1 1 the email account that you tried to reach does not exist",
        "https developers facebook com docs whatsapp cloud api support error codes",
    }
)
_BETWEEN = re.compile(r"[^a-z0-9]+")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")


def long_texts(node: Any) -> set[str]:
    """Values that are long enough to be somebody's own words, letters and digits only."""
    texts = (str(text) for text in reserved.strings(node))
    plain = (_BETWEEN.sub(" ", _PLACEHOLDER.sub("", text).lower()).strip() for text in texts)
    return {text for text in plain if len(text) >= LONG and " " in text}


def phrases(node: Any) -> set[str]:
    """Values of more than one word, placeholders left out."""
    texts = (_PLACEHOLDER.sub("", str(text)).strip() for text in reserved.strings(node))
    return {text for text in texts if " " in text}


@unittest.skipUnless(EVALUATION, "EVALUATION does not name the file of real payloads")
class Overlap(unittest.TestCase):
    """Nothing of the real payloads is in the corpus."""

    @classmethod
    def setUpClass(cls) -> None:
        path = Path(EVALUATION)
        cls.payloads = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        cls.names = reserved.load_names(path.with_name("reserved.txt"))
        cls.templates = [(place, t) for place, t in generate.templates(HERE / "corpus") if isinstance(t, dict)]

    def bodies(self) -> list[tuple[str, Any]]:
        """The payloads' bodies, parsed where they can be."""
        found = []
        for payload in self.payloads:
            try:
                found.append((payload["id"], json.loads(payload["body"])))
            except json.JSONDecodeError:
                found.append((payload["id"], payload["body"]))
        return found

    def test_no_template_names_a_reserved_provider(self) -> None:
        self.assertTrue(self.names)
        complaints = [f"{place}: {found}" for place, t in self.templates if (found := reserved.violation(t, self.names))]
        self.assertEqual(complaints, [])

    def test_no_template_is_a_payload(self) -> None:
        """Values of several words that stand in a template and all stand in one payload, three of them or more."""
        theirs = [(name, phrases(body)) for name, body in self.bodies()]
        copied = []
        for place, template in self.templates:
            own = phrases(template["body"])
            if len(own) >= 3:
                copied += [f"{place} is {name}" for name, found in theirs if own <= found]
        self.assertEqual(copied, [])

    def test_no_long_text_is_shared(self) -> None:
        """What a provider writes into each of its webhooks may be known; what people wrote into one may not."""
        theirs: dict[str, str] = {}
        for name, body in self.bodies():
            theirs.update(dict.fromkeys(long_texts(body), name))
        shared = {
            f"{place}: {text} ({theirs[text]})"
            for place, template in self.templates
            for text in long_texts(template["body"])
            if text in theirs and text not in PROVIDERS_OWN
        }
        self.assertEqual(shared, set())


if __name__ == "__main__":
    unittest.main()
