//! [`Lossy`]: a writer that never waits. A thread writes the lines; while it cannot keep up, lines are counted instead of kept.
//!
//! Why: a parent that starts a node with a pipe for its standard error, and never reads it, would stop the node once the pipe
//! is full: every task that traces would wait for ever.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES_MAX: usize = 1024;
/// The longest line; the rest of it is cut off.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long the end of the process waits for lines to be written.
const FLUSH_MAX: Duration = Duration::from_millis(500);

enum Message {
    Line(Vec<u8>),
    /// Answers once all lines before it are written.
    Flush(SyncSender<()>),
}

/// The sending side. Clones send to the same thread.
#[derive(Clone)]
pub(super) struct Lossy {
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Lossy {
    /// Writes to standard error.
    pub(super) fn to_standard_error() -> Lossy {
        Lossy::to(io::stderr())
    }

    fn to(sink: impl Write + Send + 'static) -> Lossy {
        let (lines, received) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        // Ends when the last sender is gone. Without the thread, every line counts as lost.
        let _ = std::thread::Builder::new().name("traces".to_owned()).spawn(move || write_all(&received, sink, &counted));
        Lossy { lines, lost }
    }

    /// Lines that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits a moment for what was sent to be written.
    pub(super) fn flush(&self) {
        let (written, done) = sync_channel(1);
        if self.lines.try_send(Message::Flush(written)).is_ok() {
            // Too late is no matter: the process ends.
            let _ = done.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write_all(received: &Receiver<Message>, mut sink: impl Write, lost: &AtomicU64) {
    let mut told = 0;
    while let Ok(message) = received.recv() {
        // A closed standard error is nobody's fault.
        let _ = match message {
            Message::Line(line) => sink.write_all(&line),
            Message::Flush(written) => {
                let flushed = sink.flush();
                let _ = written.send(());
                flushed
            }
        };
        let now = lost.load(Ordering::Relaxed);
        if now > told {
            let _ = writeln!(sink, "conclave: {} lines of the trace were lost, as standard error was not read in time", now - told);
            told = now;
        }
    }
}

impl Write for Lossy {
    /// One line, as the formatter writes each event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let kept = &line[..line.len().min(LINE_BYTES_MAX)];
        let mut kept = kept.to_vec();
        if kept.len() < line.len() {
            kept.extend_from_slice("…\n".as_bytes());
        }
        if self.lines.try_send(Message::Line(kept)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lossy {
    type Writer = Lossy;

    fn make_writer(&self) -> Lossy {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// A sink that can be blocked.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn content(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.content().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_does_not_read_stops_nobody_and_is_told_what_it_missed() {
        let sink = Sink::default();
        let mut writer = Lossy::to(sink.clone());
        let blocked = sink.content();
        for _ in 0..LINES_MAX + 10 {
            writer.write_all(b"line\n").unwrap();
        }
        // One line may be in the thread's hands.
        let lost = writer.lost();
        assert!((9..=10).contains(&lost), "{lost}");
        drop(blocked);
        while !String::from_utf8_lossy(&sink.content()).contains(&format!("{lost} lines of the trace were lost")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        writer.flush();
        let text = String::from_utf8(sink.content().clone()).unwrap();
        assert_eq!(text.matches("line\n").count() as u64, LINES_MAX as u64 + 10 - lost);
    }

    #[test]
    fn a_long_line_is_cut() {
        let sink = Sink::default();
        let mut writer = Lossy::to(sink.clone());
        writer.write_all(&vec![b'x'; 10 * LINE_BYTES_MAX]).unwrap();
        writer.flush();
        assert_eq!(sink.content().len(), LINE_BYTES_MAX + "…\n".len());
    }
}
