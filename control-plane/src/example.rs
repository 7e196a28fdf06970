//! Archived webhooks, read by the workers' own code, so that what is explained is what they do.

use bytes::Bytes;
use router_runtime::env;
use stream_workers::{body::Body, headers::SenderHeaders};

use crate::{error::CommandError, store::events::Event};

/// An event and what could be read of it.
#[derive(Debug)]
pub struct Read<'a> {
    pub headers: SenderHeaders<'a>,
    pub body: Body,
}

/// Reads an archived event as a worker of `process` does.
///
/// # Errors
/// `BODY_LIMIT_BYTES` cannot be read.
pub fn read(event: &Event) -> Result<Read<'_>, CommandError> {
    let body = Body::read(
        Bytes::copy_from_slice(&event.body),
        event.content_type.as_deref(),
        event.content_encoding.as_deref(),
        body_limit_bytes()?,
    );
    Ok(Read {
        headers: SenderHeaders::parse(&event.headers),
        body,
    })
}

/// The workers' own limit: more than that they do not read either.
fn body_limit_bytes() -> Result<usize, CommandError> {
    env::or("BODY_LIMIT_BYTES", 5 * 1024 * 1024)
        .map_err(|error| CommandError::Usage(format!("{error:#}")))
}
