//! Room for request bodies: how many bytes of all bodies together may be in memory, counted as they arrive.
//!
//! Always: a byte is counted before it is kept, and until its request has ended; what has not arrived holds no room, so a slow
//! sender keeps nobody out; more than [`FREE_BYTES`] of one body are taken only from a caller who is known.
//! Knows nothing of what a body means.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies that are held in memory at once, for all requests together.
const ROOM_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of a body that anybody may send. Beyond them, the caller must be known.
pub(crate) const FREE_BYTES: usize = 64 * 1024;
/// What stands before each gRPC message: a flag, and the message's length (4 bytes, big-endian).
const GRPC_HEAD_BYTES: usize = 5;

/// Why a body was not taken whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Larger than allowed.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// There is no room for it now.
    #[error("too many large request bodies at once: try again")]
    NoRoom,
    /// It is large, and nobody knows who sends it.
    #[error("permission denied")]
    UnknownCaller,
    /// It did not arrive.
    #[error("the request body did not arrive whole")]
    Lost,
}

/// Asked once, when a body turns out to be large: whether its sender is known.
pub(crate) type Gate = BoxFuture<'static, bool>;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As it is.
    Plain,
    /// One gRPC message. Its reader makes room for the whole of it as soon as it has seen the length in front.
    Grpc,
}

/// The room that one request's body takes, until this is dropped.
#[derive(Default, Clone)]
pub(crate) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    fn add(&self, permit: OwnedSemaphorePermit) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
    }
}

/// The room for all bodies of a listener. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room::of(ROOM_BYTES)
    }
}

impl Room {
    fn of(bytes: usize) -> Room {
        Room(Arc::new(Semaphore::new(bytes)))
    }

    /// The body as it arrives, and the room that it takes. Ends at the first error.
    pub(crate) fn meter(
        &self,
        body: Body,
        bytes_max: usize,
        framing: Framing,
        gate: Gate,
    ) -> (impl Stream<Item = Result<Bytes, BodyError>> + Send + use<>, Held) {
        let held = Held::default();
        let metered = Metered {
            chunks: body.into_data_stream().map(|chunk| chunk.map_err(|_| BodyError::Lost)).boxed(),
            received: 0,
            bytes_max,
            framing,
            gate: Some(gate),
            room: Arc::clone(&self.0),
            held: held.clone(),
        };
        (futures::stream::try_unfold(metered, Metered::next), held)
    }
}

struct Metered {
    chunks: futures::stream::BoxStream<'static, Result<Bytes, BodyError>>,
    received: usize,
    bytes_max: usize,
    framing: Framing,
    gate: Option<Gate>,
    room: Arc<Semaphore>,
    held: Held,
}

impl Metered {
    async fn next(mut self) -> Result<Option<(Bytes, Metered)>, BodyError> {
        let Some(chunk) = self.chunks.next().await.transpose()? else { return Ok(None) };
        let is_large = self.is_large(&chunk);
        self.received = self.received.saturating_add(chunk.len());
        if self.received > self.bytes_max {
            return Err(BodyError::TooLarge(self.bytes_max));
        }
        if is_large
            && let Some(gate) = self.gate.take()
            && !gate.await
        {
            return Err(BodyError::UnknownCaller);
        }
        let bytes = u32::try_from(chunk.len()).map_err(|_| BodyError::NoRoom)?;
        // Nobody waits for room while holding some: so nobody waits for ever.
        self.held.add(Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| BodyError::NoRoom)?);
        Ok(Some((chunk, self)))
    }

    /// Whether the body, with this chunk, is or says that it will be larger than what anybody may send.
    fn is_large(&self, chunk: &[u8]) -> bool {
        let announced = match (self.framing, self.received) {
            (Framing::Grpc, 0) => chunk
                .get(1..GRPC_HEAD_BYTES)
                .map_or(usize::MAX, |length| length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))),
            _ => 0,
        };
        self.received.saturating_add(chunk.len()).max(announced) > FREE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *size]))).collect();
        Body::from_stream(futures::stream::iter(chunks))
    }

    async fn take(room: &Room, body: Body, framing: Framing, is_known: bool) -> (Result<usize, BodyError>, Held) {
        let gate = Box::pin(async move { is_known });
        let (stream, held) = room.meter(body, 1_000_000, framing, gate);
        let taken = stream.try_fold(0, |sum, chunk| async move { Ok(sum + chunk.len()) }).await;
        (taken, held)
    }

    #[tokio::test]
    async fn room_is_taken_as_bytes_arrive_and_given_back() {
        let room = Room::of(200_000);
        let (taken, held) = take(&room, chunks(&[50_000, 100_000]), Framing::Plain, true).await;
        assert_eq!(taken.unwrap(), 150_000);
        assert!(matches!(take(&room, chunks(&[60_000]), Framing::Plain, true).await.0, Err(BodyError::NoRoom)));
        drop(held);
        assert_eq!(take(&room, chunks(&[60_000]), Framing::Plain, true).await.0.unwrap(), 60_000);
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_keeps_nobody_out() {
        let room = Room::of(100_000);
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let (slow, _held) = room.meter(never, 1_000_000, Framing::Plain, Box::pin(async { true }));
        let mut slow = std::pin::pin!(slow);
        assert!(futures::poll!(slow.next()).is_pending());
        assert_eq!(take(&room, chunks(&[100_000]), Framing::Plain, true).await.0.unwrap(), 100_000);
    }

    #[tokio::test]
    async fn much_is_taken_only_from_whom_is_known() {
        let room = Room::default();
        assert_eq!(take(&room, chunks(&[FREE_BYTES]), Framing::Plain, false).await.0.unwrap(), FREE_BYTES);
        assert!(matches!(take(&room, chunks(&[FREE_BYTES, 1]), Framing::Plain, false).await.0, Err(BodyError::UnknownCaller)));
        assert!(matches!(take(&room, chunks(&[1_000_001]), Framing::Plain, true).await.0, Err(BodyError::TooLarge(1_000_000))));
    }

    #[tokio::test]
    async fn a_grpc_message_is_as_large_as_it_says() {
        let room = Room::default();
        for (head, fits) in [
            (&b"\0\0\0\0\x02hi"[..], true),
            (b"\0\0\x01\0\0", true),
            (b"\0\0\x01\0\x01", false),
            (b"\0\xff\xff\xff\xff", false),
            (b"\0\0", false),
        ] {
            let body = || Body::from(head.to_vec());
            assert_eq!(take(&room, body(), Framing::Grpc, false).await.0.is_ok(), fits, "{head:?}");
            assert!(take(&room, body(), Framing::Grpc, true).await.0.is_ok(), "{head:?}");
        }
    }
}
