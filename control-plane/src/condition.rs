//! Conditions of rules as people write them: `header:x-github-event=push`, `json:/type ^= invoice.`,
//! `json:/data/id exists`.
//!
//! A field, an operator, a value. Spaces around them do not count. A field ends at the first space or `=`, a value
//! at the end; either may stand in double quotes, written as JSON writes a string, which then ends it. What
//! [`show`] writes, [`parse`] reads.

use router_schemas::{
    config::{Condition, Field, Test},
    raw::is_credential,
};

use crate::validate::Invalid;

/// Characters in a header's name, a pointer or a value at the most.
const NAME_CHARS: usize = 100;
const POINTER_CHARS: usize = 512;
const VALUE_CHARS: usize = 1_000;
/// Values of one `in` at the most.
const VALUES: usize = 100;
/// Conditions of one rule at the most, and bytes of all of them as JSON.
const CONDITIONS: usize = 20;
const CONDITIONS_BYTES: usize = 100_000;

const FIELD: &str = "when";
const FIELDS: &str =
    "a condition begins with header:NAME or json:/POINTER, such as header:x-github-event=push";
const OPERATORS: &str =
    "an operator is missing: = equals, ~= contains, ^= starts with, in A,B, exists, absent";

/// Reads a condition.
///
/// # Errors
/// What is wrong, and a mark under the place where it is.
pub fn parse(text: &str) -> Result<Condition, Invalid> {
    let mut reader = Reader { text, at: 0 };
    reader.condition().map_err(|fault| fault.shown(text))
}

/// Checks the conditions of a rule, whoever made them.
///
/// # Errors
/// There are none or too many, or one of them is refused.
pub fn check(conditions: &[Condition]) -> Result<(), Invalid> {
    if conditions.is_empty() {
        return Err(Invalid::new(FIELD, "a rule needs at least one condition"));
    }
    if conditions.len() > CONDITIONS {
        let why = format!("a rule takes {CONDITIONS} conditions at the most");
        return Err(Invalid::new(FIELD, why));
    }
    for condition in conditions {
        let fault = field_fault(&condition.field).or_else(|| test_fault(condition));
        if let Some(why) = fault {
            return Err(Invalid::new(FIELD, format!("{why}: {}", show(condition))));
        }
    }
    let bytes = serde_json::to_vec(conditions).map_or(usize::MAX, |json| json.len());
    if bytes > CONDITIONS_BYTES {
        let why = "the conditions are longer than 100 kB together; make two rules of them";
        return Err(Invalid::new(FIELD, why));
    }
    Ok(())
}

/// The condition as it would be written.
#[must_use]
pub fn show(condition: &Condition) -> String {
    let field = match &condition.field {
        Field::Header(name) => format!("header:{}", quoted_unless(name, is_plain_field)),
        Field::Json(pointer) => format!("json:{}", quoted_unless(pointer, is_plain_field)),
    };
    let value = |text| quoted_unless(text, is_plain_value);
    match &condition.test {
        Test::Exists(true) => format!("{field} exists"),
        Test::Exists(false) => format!("{field} absent"),
        Test::Equals(text) => format!("{field}={}", value(text)),
        Test::Contains(text) => format!("{field}~={}", value(text)),
        Test::StartsWith(text) => format!("{field}^={}", value(text)),
        Test::OneOf(texts) => {
            let listed = |text: &String| {
                quoted_unless(text, |text| is_plain_value(text) && !text.contains(','))
            };
            let texts: Vec<String> = texts.iter().map(listed).collect();
            format!("{field} in {}", texts.join(","))
        }
    }
}

fn quoted_unless(text: &str, plain: impl Fn(&str) -> bool) -> String {
    if plain(text) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

fn is_plain_field(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '=' | '"');
    // At its end these would be read as part of an operator.
    !text.contains(odd) && !text.ends_with(['~', '^', '!'])
}

fn is_plain_value(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !text.starts_with(['"', '='])
        && !text.contains(char::is_control)
}

fn field_fault(field: &Field) -> Option<String> {
    match field {
        Field::Header(name) if name.is_empty() => Some("the name of a header is missing".into()),
        Field::Header(name) if name.chars().count() > NAME_CHARS => {
            Some(format!("the name is longer than {NAME_CHARS} characters"))
        }
        Field::Header(name) => {
            // A token of RFC 9110.
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            (!name.chars().all(token))
                .then(|| "a header's name holds letters, digits, - and _ only".into())
        }
        Field::Json(pointer) if pointer.chars().count() > POINTER_CHARS => Some(format!(
            "the pointer is longer than {POINTER_CHARS} characters"
        )),
        Field::Json(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
            Some("a JSON Pointer begins with a slash, such as json:/data/object/type".into())
        }
        Field::Json(pointer) => {
            let whole = |behind: &str| behind.starts_with(['0', '1']);
            if !pointer.split('~').skip(1).all(whole) {
                return Some(
                    "in a JSON Pointer ~ is written ~0, and a slash within a key ~1".into(),
                );
            }
            pointer.contains('\0').then(|| "holds a NUL".into())
        }
    }
}

fn test_fault(condition: &Condition) -> Option<String> {
    let values: &[String] = match &condition.test {
        Test::Exists(_) => return None,
        Test::OneOf(values) => values,
        Test::Equals(value) | Test::StartsWith(value) | Test::Contains(value) => {
            std::slice::from_ref(value)
        }
    };
    if let Field::Header(name) = &condition.field
        && is_credential(&name.to_ascii_lowercase())
    {
        return Some(
            "this header carries credentials, and its value is blanked before anything is stored: only exists and absent can be asked of it".into(),
        );
    }
    if values.is_empty() || values.len() > VALUES {
        return Some(format!("in takes 1 to {VALUES} values"));
    }
    if values.iter().any(|text| text.chars().count() > VALUE_CHARS) {
        return Some(format!("a value is longer than {VALUE_CHARS} characters"));
    }
    let nul = values.iter().any(|text| text.contains('\0'));
    nul.then(|| "a value holds a NUL".into())
}

/// What is wrong, and the byte at which it is.
#[derive(Debug)]
struct Fault {
    at: usize,
    why: String,
}

impl Fault {
    fn shown(self, text: &str) -> Invalid {
        let line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let column = text.get(..self.at).unwrap_or(text).chars().count();
        let mark = " ".repeat(column);
        Invalid::new(FIELD, format!("{}\n  {line}\n  {mark}^", self.why))
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn condition(&mut self) -> Result<Condition, Fault> {
        self.skip_spaces();
        let is_header = self.take("header:");
        if !is_header && !self.take("json:") {
            return Err(self.fault(FIELDS));
        }
        let began = self.at;
        let name = match self.quoted()? {
            Some(name) => name,
            None => self.until_operator().to_owned(),
        };
        let field = match is_header {
            true => Field::Header(name.to_ascii_lowercase()),
            false => Field::Json(name),
        };
        if let Some(why) = field_fault(&field) {
            return Err(Fault { at: began, why });
        }
        self.skip_spaces();
        let operator = self.at;
        let test = self.test()?;
        let condition = Condition { field, test };
        match test_fault(&condition) {
            Some(why) => Err(Fault { at: operator, why }),
            None => Ok(condition),
        }
    }

    fn test(&mut self) -> Result<Test, Fault> {
        if self.rest().starts_with("!=") {
            return Err(self.fault("there is no !=; put a rule for the others before this one"));
        }
        for (operator, make) in [
            ("~=", Test::Contains as fn(String) -> Test),
            ("^=", Test::StartsWith),
            ("=", Test::Equals),
        ] {
            if self.take(operator) {
                let value = self.value()?;
                return Ok(make(value));
            }
        }
        let word_at = self.at;
        let word = self.until_operator();
        match word {
            "in" => return self.values().map(Test::OneOf),
            "exists" | "absent" => {}
            _ => {
                self.at = word_at;
                return Err(self.fault(OPERATORS));
            }
        }
        self.skip_spaces();
        if !self.rest().is_empty() {
            return Err(self.fault(format!("nothing stands behind {word}")));
        }
        Ok(Test::Exists(word == "exists"))
    }

    fn value(&mut self) -> Result<String, Fault> {
        self.skip_spaces();
        let text = match self.quoted()? {
            Some(text) => text,
            None if self.rest().starts_with('=') => {
                return Err(self.fault(
                    "= is written once; a value that begins with it stands in double quotes",
                ));
            }
            None => {
                let text = self.rest().trim_end();
                if text.is_empty() {
                    return Err(self.fault("a value is missing; the empty text is \"\""));
                }
                self.at += text.len();
                text.to_owned()
            }
        };
        self.skip_spaces();
        if !self.rest().is_empty() {
            return Err(self.fault("nothing stands behind a value in double quotes"));
        }
        Ok(text)
    }

    fn values(&mut self) -> Result<Vec<String>, Fault> {
        let mut values = Vec::new();
        loop {
            self.skip_spaces();
            let value = match self.quoted()? {
                Some(value) => value,
                None => {
                    let rest = self.rest();
                    let value = rest.split(',').next().unwrap_or(rest).trim_end();
                    if value.is_empty() {
                        return Err(self.fault("a value is missing; the empty text is \"\""));
                    }
                    self.at += value.len();
                    value.to_owned()
                }
            };
            values.push(value);
            self.skip_spaces();
            if self.rest().is_empty() {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(self.fault("values are parted by commas"));
            }
        }
    }

    /// A string in double quotes, where one begins here.
    fn quoted(&mut self) -> Result<Option<String>, Fault> {
        if !self.rest().starts_with('"') {
            return Ok(None);
        }
        let mut read = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        match read.next() {
            Some(Ok(text)) => {
                self.at += read.byte_offset();
                Ok(Some(text))
            }
            _ => Err(self.fault("the text in double quotes does not end, or \\ stands before a character that is not escaped so")),
        }
    }

    /// What comes before the next space or operator.
    fn until_operator(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || c == '=');
        let mut text = &rest[..end.unwrap_or(rest.len())];
        if rest[text.len()..].starts_with('=') {
            text = text.strip_suffix(['~', '^', '!']).unwrap_or(text);
        }
        self.at += text.len();
        text
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn fault(&self, why: impl Into<String>) -> Fault {
        Fault {
            at: self.at,
            why: why.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(name: &str, test: Test) -> Condition {
        let field = Field::Header(name.into());
        Condition { field, test }
    }

    fn json(pointer: &str, test: Test) -> Condition {
        let field = Field::Json(pointer.into());
        Condition { field, test }
    }

    #[test]
    fn conditions_are_written_as_they_are_said() {
        let text = String::from;
        for (written, wanted) in [
            (
                "header:X-GitHub-Event=push",
                header("x-github-event", Test::Equals(text("push"))),
            ),
            (
                "json:/data/object/object=charge",
                json("/data/object/object", Test::Equals(text("charge"))),
            ),
            (" json:/a  =  b c ", json("/a", Test::Equals(text("b c")))),
            ("json:/a=b=c|d", json("/a", Test::Equals(text("b=c|d")))),
            (
                "json:/a~1b~0~=x",
                json("/a~1b~0", Test::Contains(text("x"))),
            ),
            ("json:/a^=inv.", json("/a", Test::StartsWith(text("inv.")))),
            ("json:/a ~= x", json("/a", Test::Contains(text("x")))),
            (
                "json:/a in b, c ,\"d,e\"",
                json("/a", Test::OneOf(vec![text("b"), text("c"), text("d,e")])),
            ),
            ("header:a exists", header("a", Test::Exists(true))),
            (
                "header:authorization absent ",
                header("authorization", Test::Exists(false)),
            ),
            ("json: exists", json("", Test::Exists(true))),
            (
                "json:\"/a = b\"=\" c\"",
                json("/a = b", Test::Equals(text(" c"))),
            ),
            ("json:/a=\"\"", json("/a", Test::Equals(text("")))),
            ("json:/in in in", json("/in", Test::OneOf(vec![text("in")]))),
            ("json:/größe=ä", json("/größe", Test::Equals(text("ä")))),
        ] {
            assert_eq!(parse(written), Ok(wanted), "{written}");
        }
    }

    #[test]
    fn an_error_points_at_its_place() {
        for (written, column, told) in [
            ("", 0, "header:NAME"),
            ("body:/a=b", 0, "header:NAME"),
            ("header:=x", 7, "name of a header"),
            ("header:ä=x", 7, "letters"),
            ("header:x-github-event", 21, "operator is missing"),
            ("header:a push", 9, "operator is missing"),
            ("header:a != b", 9, "no !="),
            ("header:a!=b", 8, "no !="),
            ("header:a==b", 9, "= is written once"),
            ("header:a=", 9, "value is missing"),
            ("json:/ä=\"b", 8, "does not end"),
            ("json:/a=\"b\"c", 11, "nothing stands behind"),
            ("json:a=b", 5, "slash"),
            ("json:/a~b=c", 5, "~0"),
            ("json:/a in b,,c", 13, "value is missing"),
            ("json:/a in", 10, "value is missing"),
            ("json:/a in \"b\" c", 15, "commas"),
            ("json:/a exists now", 15, "nothing stands behind exists"),
            ("header:x-api-key=secret", 16, "blanked"),
            ("json:/a\n=\0", 8, "NUL"),
        ] {
            let refused = parse(written).expect_err(written).to_string();
            assert!(refused.contains(told), "{written}: {refused}");
            let mark = refused.lines().last().unwrap();
            assert_eq!(mark.len(), column + 3, "{written}:\n{refused}");
            assert_eq!(refused.lines().count(), 3, "{refused}");
        }
    }

    #[test]
    fn limits_hold_for_conditions_of_any_maker() {
        let short = header("a", Test::Exists(true));
        assert!(check(&[]).is_err());
        assert!(check(&vec![short.clone(); 20]).is_ok());
        assert!(check(&vec![short; 21]).is_err());
        let long = |chars| json("/a", Test::Equals("x".repeat(chars)));
        assert!(check(&[long(1_000)]).is_ok() && check(&[long(1_001)]).is_err());
        assert!(check(&[json(&format!("/{}", "x".repeat(512)), Test::Exists(true))]).is_err());
        let many = |count| json("/a", Test::OneOf(vec!["x".into(); count]));
        assert!(check(&[many(100)]).is_ok() && check(&[many(101)]).is_err());
        assert!(check(&[many(0)]).is_err());
        let heavy = json("/a", Test::OneOf(vec!["x".repeat(1_000); 100]));
        assert!(check(&[heavy]).is_err());
    }

    fn texts() -> impl Strategy<Value = String> {
        "[ a-z\"\\\\=~^!,ä\\t\\n/]{0,8}"
    }

    fn tests() -> impl Strategy<Value = Test> {
        prop_oneof![
            any::<bool>().prop_map(Test::Exists),
            texts().prop_map(Test::Equals),
            texts().prop_map(Test::Contains),
            texts().prop_map(Test::StartsWith),
            prop::collection::vec(texts(), 1..4).prop_map(Test::OneOf),
        ]
    }

    fn fields() -> impl Strategy<Value = Field> {
        prop_oneof![
            "[a-z!^~_.-]{1,8}".prop_map(Field::Header),
            "(/([ a-z\"\\\\=^!,ä\\n]|~0|~1){0,4}){0,3}".prop_map(Field::Json),
        ]
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(field in fields(), test in tests()) {
            let condition = Condition { field, test };
            // A name that ends like one of a credential is refused.
            prop_assume!(check(std::slice::from_ref(&condition)).is_ok());
            let shown = show(&condition);
            prop_assert_eq!(parse(&shown), Ok(condition), "{}", shown);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "(header:|json:)?[ -~äß\\n]{0,20}") {
            parse(&text).ok();
        }
    }
}
