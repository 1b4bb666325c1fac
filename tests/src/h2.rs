//! HTTP/2 written by hand (RFC 9113), for what a well-behaved client would never send.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a connection begins.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A write that takes longer has been given up by the other side.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Types of frames (section 6).
pub mod kind {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// Headers, and with them a stream begins.
    pub const HEADERS: u8 = 1;
    /// Once said which stream comes first.
    pub const PRIORITY: u8 = 2;
    /// Ends a stream at once.
    pub const RST_STREAM: u8 = 3;
    /// What the sender holds to, or that the other's settings were taken.
    pub const SETTINGS: u8 = 4;
    /// Asks for an echo, or is one.
    pub const PING: u8 = 6;
    /// The connection ends, and why.
    pub const GOAWAY: u8 = 7;
    /// More bytes may come.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More headers.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// No flag.
    pub const NONE: u8 = 0;
    /// The last frame of its stream.
    pub const END_STREAM: u8 = 1;
    /// The last headers of a block.
    pub const END_HEADERS: u8 = 4;
}

/// One frame. The payload is at most 16 KiB, as nobody has agreed to more.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A text of HPACK (RFC 7541, section 5.2), without Huffman coding; shorter than 127 bytes.
fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text");
    [&[length], text.as_bytes()].concat()
}

/// A header (RFC 7541, section 6.2.2), kept in no table.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a request without a token.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    [header(":method", method), header(":scheme", "http"), header(":authority", "127.0.0.1"), header(":path", path)].concat()
}

/// What the other side sent so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Frames, by type.
    pub frames: BTreeMap<u8, usize>,
    /// The error code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// Whether it closed the connection.
    pub has_ended: bool,
}

impl Seen {
    /// Frames of this type.
    pub fn count(&self, kind: u8) -> usize {
        self.frames.get(&kind).copied().unwrap_or(0)
    }
}

/// A connection whose answers are read, and counted, by a thread. Dropped, it is closed.
pub struct Connection {
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

impl Connection {
    /// Sends the preface and empty settings to a port of 127.0.0.1. With `reads` false nothing is read, ever.
    pub fn open(port: u16, reads: bool) -> io::Result<Connection> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.write_all(&[PREFACE, &frame(kind::SETTINGS, flag::NONE, 0, &[])].concat())?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let reader = if reads {
            let (mut stream, seen) = (stream.try_clone()?, Arc::clone(&seen));
            Some(std::thread::spawn(move || {
                while let Ok((kind, payload)) = read_frame(&mut stream) {
                    let mut seen = lock(&seen);
                    *seen.frames.entry(kind).or_default() += 1;
                    if kind == kind::GOAWAY {
                        seen.goaway = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
                    }
                }
                lock(&seen).has_ended = true;
            }))
        } else {
            None
        };
        Ok(Connection { stream, seen, reader })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What came so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Waits until the other side has closed, at most for `limit`: what came.
    pub fn await_end(&self, limit: Duration) -> Seen {
        let deadline = Instant::now() + limit;
        while !lock(&self.seen).has_ended && Instant::now() < deadline {
            std::thread::sleep(POLL_INTERVAL);
        }
        self.seen()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_frame(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[3], payload))
}
