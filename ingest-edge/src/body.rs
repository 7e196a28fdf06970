//! Reading a body: within its size, within its time, within what the whole edge may hold. The bytes are
//! never changed, and a body that came in one piece is never copied.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::problem::Problem;

/// What the edge has in flight, bounded in requests and in bytes.
#[derive(Debug)]
pub struct InFlight {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    max_requests: usize,
    max_bytes: usize,
}

impl InFlight {
    #[must_use]
    pub fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self {
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_requests,
            max_bytes,
        }
    }

    /// # Errors
    /// [`Problem::Busy`] when there are as many requests as there may be.
    pub fn enter(self: &Arc<Self>) -> Result<Share, Problem> {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::Busy);
        }
        Ok(Share {
            of: Arc::clone(self),
            bytes: 0,
        })
    }

    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// One request's share of what is in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<InFlight>,
    bytes: usize,
}

impl Share {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        if self.of.bytes.fetch_add(more, Ordering::Relaxed) + more > self.of.max_bytes {
            self.of.bytes.fetch_sub(more, Ordering::Relaxed);
            return Err(Problem::Busy);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is left of a body that is refused is read for this long, so that its sender sees the answer: closing a
/// connection on bytes that were not read resets it.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the whole body, announced or chunked. A sender that waits for `100 Continue` has sent nothing yet.
///
/// # Errors
/// It is larger than `limit_bytes`, does not arrive in time, breaks off, or does not fit into what the
/// edge may hold.
pub async fn read(
    body: Body,
    announced: Option<usize>,
    waits_for_word: bool,
    limit_bytes: usize,
    timeout: Duration,
    share: &mut Share,
) -> Result<Bytes, Problem> {
    let too_large = Problem::BodyTooLarge { limit_bytes };
    if let Some(beyond) = announced.and_then(|bytes| bytes.checked_sub(limit_bytes + 1)) {
        // Who is far beyond the limit sends longer than anybody wants to listen.
        if !waits_for_word && beyond < limit_bytes {
            discard(body, 2 * limit_bytes).await;
        }
        return Err(too_large);
    }
    // What is announced takes no share before it is there: idle uploads would keep everybody else out.
    let collect = collect(body, announced.unwrap_or(0), limit_bytes, share, too_large);
    tokio::time::timeout(timeout, collect)
        .await
        .unwrap_or(Err(Problem::BodyTimeout))
}

async fn collect(
    mut body: Body,
    announced: usize,
    limit_bytes: usize,
    share: &mut Share,
    too_large: Problem,
) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are no part of the body.
        let Ok(data) = frame.map_err(|_| Problem::BodyBroken)?.into_data() else {
            continue;
        };
        let so_far = first.len() + whole.len();
        let total = so_far + data.len();
        if total > limit_bytes {
            discard(body, limit_bytes).await;
            return Err(too_large);
        }
        share.grow_to(total)?;
        if so_far == 0 {
            first = data;
        } else {
            if whole.is_empty() {
                whole.reserve(announced.max(total));
                whole.extend_from_slice(&first);
                first = Bytes::new();
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

/// Reads on and forgets, within a bound.
async fn discard(mut body: Body, bound_bytes: usize) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > bound_bytes {
                return;
            }
        }
    };
    tokio::time::timeout(DISCARD_TIMEOUT, read).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight() -> Arc<InFlight> {
        Arc::new(InFlight::new(2, 100))
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<Result<Bytes, std::io::Error>> = sizes
            .iter()
            .map(|size| Ok(Bytes::from(vec![b'x'; *size])))
            .collect();
        Body::from_stream(futures_util::stream::iter(chunks))
    }

    async fn read_chunks(sizes: &[usize], announced: Option<usize>) -> Result<usize, Problem> {
        let mut share = in_flight().enter().unwrap();
        let timeout = Duration::from_secs(1);
        read(chunks(sizes), announced, false, 50, timeout, &mut share)
            .await
            .map(|body| body.len())
    }

    #[tokio::test]
    async fn the_limit_holds_for_announced_and_for_chunked_bodies() {
        let too_large = Problem::BodyTooLarge { limit_bytes: 50 };
        assert_eq!(read_chunks(&[], None).await, Ok(0));
        assert_eq!(read_chunks(&[20, 20, 10], None).await, Ok(50));
        assert_eq!(
            read_chunks(&[20, 20, 11], None).await,
            Err(too_large.clone())
        );
        assert_eq!(read_chunks(&[1], Some(51)).await, Err(too_large));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_a_timeout() {
        let mut share = in_flight().enter().unwrap();
        let body =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let read = read(body, None, false, 50, Duration::from_secs(30), &mut share).await;
        assert_eq!(read, Err(Problem::BodyTimeout));
    }

    #[tokio::test]
    async fn what_is_in_flight_is_bounded_and_given_back() {
        let in_flight = in_flight();
        let mut first = in_flight.enter().unwrap();
        assert_eq!(first.grow_to(80), Ok(()));
        let mut second = in_flight.enter().unwrap();
        assert_eq!(second.grow_to(30), Err(Problem::Busy));
        assert!(in_flight.enter().is_err());
        drop(first);
        assert_eq!(second.grow_to(30), Ok(()));
        drop(second);
        assert_eq!((in_flight.requests(), in_flight.bytes()), (0, 0));
    }
}
