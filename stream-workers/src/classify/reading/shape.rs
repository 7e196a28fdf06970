//! What kind of thing a value is. Ids, amounts, dates and addresses say nothing as words; that they are there
//! does.

/// Shapes of values, as they stand in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Empty,
    Boolean,
    Number,
    /// Digits with a fraction: amounts, measures.
    Decimal,
    /// Seconds or milliseconds since 1970, by their size.
    Epoch,
    Date,
    Email,
    Phone,
    Url,
    Address,
    Id,
    /// One to four words: a name for something.
    Name,
    /// More than that.
    Prose,
}

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Decimal => "decimal",
            Self::Epoch => "epoch",
            Self::Date => "date",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Address => "address",
            Self::Id => "id",
            Self::Name => "name",
            Self::Prose => "prose",
        }
    }

    /// Of a number, `true`, `false` or `null`.
    pub(super) fn of_literal(text: &str) -> Self {
        let bytes = text.as_bytes();
        match bytes.first() {
            None | Some(b'n') => Self::Empty,
            Some(b't' | b'f') => Self::Boolean,
            _ if bytes.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => Self::Decimal,
            // 2001 to 2286, in seconds or milliseconds.
            Some(b'1'..=b'9') if matches!(bytes.len(), 10 | 13) => Self::Epoch,
            _ => Self::Number,
        }
    }

    /// Of a text.
    pub(super) fn of_text(text: &str) -> Self {
        let text = text.trim();
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Self::Empty;
        }
        let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
        let blanks = bytes.iter().filter(|byte| **byte == b' ').count();
        if digits == 0 {
            return match (blanks, text) {
                (0, "true" | "false") => Self::Boolean,
                (0, _) if is_url(text) => Self::Url,
                (0, _) if is_email(text) => Self::Email,
                (0..4, _) if bytes.len() <= 60 => Self::Name,
                _ => Self::Prose,
            };
        }
        if blanks == 0 {
            if is_url(text) {
                return Self::Url;
            }
            if is_email(text) {
                return Self::Email;
            }
            if digits == bytes.len() {
                return Self::of_literal(text);
            }
        }
        if is_date(bytes, digits) {
            return Self::Date;
        }
        let other = bytes.len() - digits;
        if bytes[0] == b'+' && digits >= 7 && digits * 2 > other && blanks < 6 {
            return Self::Phone;
        }
        let numeric = bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b".,-+ ".contains(byte));
        if numeric && blanks == 0 {
            let dots = bytes.iter().filter(|byte| **byte == b'.').count();
            return match dots {
                0 => Self::Number,
                1 => Self::Decimal,
                _ => Self::Address,
            };
        }
        if numeric {
            return if digits >= 7 {
                Self::Phone
            } else {
                Self::Number
            };
        }
        if blanks == 0 && digits * 5 >= bytes.len() && bytes.len() >= 8 {
            return Self::Id;
        }
        if blanks == 0 && bytes.len() > 24 && digits > 0 && !text.contains(['.', '/', ':']) {
            return Self::Id;
        }
        if blanks < 4 && bytes.len() <= 60 {
            return Self::Name;
        }
        Self::Prose
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://") || text.starts_with("www.")
}

fn is_email(text: &str) -> bool {
    let Some((who, host)) = text.split_once('@') else {
        return false;
    };
    !who.is_empty() && host.contains('.') && !host.contains(['/', '@'])
}

/// `2024-01-02...`, `02/01/2024`, `10:23:45`, `Mon, 02 Jan 2024 ...`.
fn is_date(bytes: &[u8], digits: usize) -> bool {
    if bytes.len() > 40 || digits < 4 {
        return false;
    }
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mark = |at: usize| matches!(bytes.get(at), Some(b'-' | b'/' | b'.' | b':'));
    if digit(0) && digit(3) && mark(4) && digit(5) && digits >= 6 {
        return true;
    }
    if digit(0)
        && digit(1)
        && mark(2)
        && digit(3)
        && digit(4)
        && mark(5)
        && (6..=14).contains(&digits)
    {
        return true;
    }
    digits >= 5 && bytes.windows(3).any(is_month)
}

fn is_month(letters: &[u8]) -> bool {
    matches!(
        letters,
        b"Jan"
            | b"Feb"
            | b"Mar"
            | b"Apr"
            | b"May"
            | b"Jun"
            | b"Jul"
            | b"Aug"
            | b"Sep"
            | b"Oct"
            | b"Nov"
            | b"Dec"
    )
}

#[cfg(test)]
mod tests {
    use super::Shape::{self, *};

    #[test]
    fn values_are_known_by_their_looks() {
        for (text, shape) in [
            ("", Empty),
            ("paid", Name),
            ("In Progress", Name),
            ("true", Boolean),
            ("42", Number),
            ("-3", Number),
            ("12.50", Decimal),
            ("1780000000", Epoch),
            ("1780000000123", Epoch),
            ("2024-01-02T03:04:05Z", Date),
            ("02/01/2024", Date),
            ("Mon, 02 Jan 2024 10:00:00 +0000", Date),
            ("a@example.com", Email),
            ("+49 170 1234567", Phone),
            ("https://example.com/a", Url),
            ("10.0.0.1", Address),
            ("evt_1Nxyz987abc", Id),
            ("550e8400-e29b-41d4-a716-446655440000", Id),
            ("invoice.paid", Name),
            ("The build of main failed after ten minutes", Prose),
            ("Order 12 was sent to you by mail today", Prose),
            ("v1.2", Name),
            ("größe", Name),
            ("支払い", Name),
        ] {
            assert_eq!(Shape::of_text(text), shape, "{text}");
        }
    }
}
