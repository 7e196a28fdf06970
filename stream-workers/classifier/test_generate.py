"""Tests of the generator: `python3 -m unittest test_generate`. Needs only the standard library."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from random import Random
from typing import Any

import naming
import reserved
import shape
import values
from augment import expand

HERE = Path(__file__).resolve().parent
TEMPLATE: dict[str, Any] = {
    "provider": "north-pay",
    "event": "invoice.paid",
    "label": "billing",
    "headers": {"X-North-Pay-Event": "invoice.paid"},
    "content_type": "application/json",
    "body": {"type": "invoice.paid", "data": {"total": "{{cents}}", "by": "{{email}}", "from": "North Pay"}},
}


class Expansion(unittest.TestCase):
    """What becomes of one template."""

    def test_the_same_seed_gives_the_same_webhook(self) -> None:
        made = [expand(TEMPLATE, Random("a"), []) for _ in range(2)]
        self.assertEqual(made[0], made[1])
        self.assertNotEqual(made[0], expand(TEMPLATE, Random("b"), []))

    def test_bare_numbers_become_numbers_and_nothing_is_left_unfilled(self) -> None:
        made = expand(TEMPLATE, Random(1), [], untouched=True)
        body = json.loads(made["body"])
        self.assertIsInstance(body["data"]["total"], int)
        self.assertNotIn("{{", made["body"])
        self.assertEqual(body["type"], "invoice.paid")

    def test_most_webhooks_lose_the_name_of_the_sender_and_half_their_headers(self) -> None:
        made = [expand(TEMPLATE, Random(seed), []) for seed in range(400)]
        texts = [record["body"] + json.dumps(record["headers"]) for record in made]
        named = sum("northpay" in reserved.normalise(text) for text in texts)
        bare = sum(not record["headers"] for record in made)
        self.assertTrue(60 < named < 160, named)
        self.assertTrue(150 < bare < 250, bare)
        for record in made:
            self.assertTrue(record["body"])
            if record["content_type"] == "application/json":
                self.assertIsInstance(json.loads(record["body"]), dict)

    def test_every_placeholder_makes_a_value(self) -> None:
        for name in values.MAKERS:
            self.assertNotIn("{{", str(values.fill(f"{{{{{name}}}}}", Random(1))))

    def test_a_choice_is_made_and_what_stands_in_it_is_filled(self) -> None:
        made = {values.fill_text("{{one:paid|open|{{int}} left}}", Random(seed)) for seed in range(30)}
        self.assertLessEqual({"paid", "open"}, made)
        self.assertFalse([text for text in made if "{" in text])

    def test_styles_keep_the_words(self) -> None:
        for seed in range(50):
            styled = naming.restyle_event("invoice.payment_failed", Random(seed))
            self.assertEqual(naming.plain(styled), "invoicepaymentfailed")

    def test_an_envelope_can_be_taken_off(self) -> None:
        self.assertEqual(shape.unwrap({"a": 1, "data": {"b": 2}}), {"b": 2, "a": 1})

    def test_a_brand_contains_no_forbidden_name(self) -> None:
        rng = Random(1)
        for _ in range(500):
            self.assertNotIn("ka", naming.brand(rng, ["ka"]))


class Reserved(unittest.TestCase):
    """Reserved providers do not get through."""

    def test_a_name_is_found_wherever_it_stands(self) -> None:
        for change in (
            {"provider": "Acme Mail"},
            {"headers": {"X-AcmeMail-Event": "x"}},
            {"headers": {"user-agent": "acme-mail/1"}},
            {"body": {"acmeMailId": 1}},
            {"body": [{"deep": ["see https://acme-mail.com"]}]},
            {"body": "from=acme_mail"},
        ):
            self.assertIsNotNone(reserved.violation({**TEMPLATE, **change}, ["acmemail"]), change)
        self.assertIsNone(reserved.violation(TEMPLATE, ["acmemail"]))

    def run_generator(self, template: dict[str, Any], *options: str) -> tuple[int, str, list[str]]:
        """Runs the command on a corpus of one template; exit code, complaints, lines written."""
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            line = {"source": "recalled", **{key: template[key] for key in template if key != "provider"}}
            (directory / "north-pay.jsonl").write_text(json.dumps(line) + "\n")
            (directory / "names.txt").write_text("Acme-Mail\n")
            out = directory / "out.jsonl"
            command = [sys.executable, str(HERE / "generate.py"), "--corpus", name, "--count", "5"]
            command += ["--reserved", str(directory / "names.txt"), "--out", str(out), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = out.read_text().splitlines() if out.exists() else []
            return done.returncode, done.stderr, lines

    def test_the_command_refuses_and_names_the_line(self) -> None:
        code, complaints, lines = self.run_generator({**TEMPLATE, "body": {"via": "acme mail"}})
        self.assertEqual((code, lines), (1, []))
        self.assertIn("north-pay.jsonl:1", complaints)

    def test_the_command_writes_what_is_sound(self) -> None:
        code, _, lines = self.run_generator(TEMPLATE)
        self.assertEqual((code, len(lines)), (0, 5))

    def test_what_is_not_sound_is_refused_with_what_is_wrong(self) -> None:
        for change, complaint in (
            ({"label": "sales"}, "labels that do not exist"),
            ({"source": "somewhere"}, "the source is one of"),
            ({"source": "documented"}, "has a ref"),
            ({"body": {"a": "{{colour}}"}}, "unknown placeholders"),
            ({"body": {"a": "{{one:red|{{colour}}"}}, "unknown placeholders"),
        ):
            code, complaints, _ = self.run_generator({**TEMPLATE, **change})
            self.assertEqual(code, 1)
            self.assertIn(complaint, complaints)

    def test_names_that_are_plain_words_count_as_words_only(self) -> None:
        for text in ("sandbox", "checkboxes", "inbox_id", "postal_code", "postalCode"):
            self.assertIsNone(reserved.named(text, ["box", "postal"]), text)
        for text in ("box", "X-Box-Event", "api.box.com", "boxUser", "Postal-Signature"):
            self.assertIsNotNone(reserved.named(text, ["box", "postal"]), text)
        self.assertIsNone(reserved.named("thankyou_screen", ["uscreen"]))
        self.assertIsNotNone(reserved.named("myuscreenapp", ["uscreen"]))


if __name__ == "__main__":
    unittest.main()
