//! Just enough of an HTTP/1.1 response: the status and where the response ends. Only for servers that
//! answer with `content-length`, as the ones measured here do; anything else is an error, not a guess.

/// A response at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Bytes of head and body together.
    pub total_bytes: usize,
    /// The server ends the connection behind it.
    pub closes: bool,
}

/// `None` while the head is not complete.
///
/// # Errors
/// It is not a response with a length.
pub fn parse_head(buffer: &[u8]) -> Result<Option<Head>, &'static str> {
    let Some(head_end) = find(buffer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..head_end]).map_err(|_| "head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or("no HTTP/1.1 status line")?;
    let mut length = None;
    let mut closes = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let length = match (length, status) {
        (Some(length), _) => length,
        (None, 204 | 304) => 0,
        (None, _) => return Err("no content-length"),
    };
    Ok(Some(Head {
        status,
        total_bytes: head_end + 4 + length,
        closes,
    }))
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    buffer.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_length_says() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nx: y\r\n\r\nhelloHTTP/1.1";
        let head = parse_head(text).expect("readable").expect("complete");
        assert_eq!((head.status, head.closes), (202, false));
        assert_eq!(&text[head.total_bytes - 5..head.total_bytes], b"hello");
    }

    #[test]
    fn what_is_cut_off_is_awaited_and_what_is_wrong_is_refused() {
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-le"), Ok(None));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(b"garbage\r\n\r\n").is_err());
    }

    #[test]
    fn a_server_that_hangs_up_is_noticed() {
        let text =
            b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(parse_head(text).is_ok_and(|head| head.is_some_and(|head| head.closes)));
    }
}
