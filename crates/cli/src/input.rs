//! Secrets that people give: typed without echo, or one line on stdin.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::os::fd::OwnedFd;

use client::SecretString;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{LocalModes, OptionalActions, Termios};
use zeroize::Zeroizing;

use crate::fault::Fault;

/// The longest line; a share is below 100 bytes, a token below 16 KiB.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Asks at the terminal when there is one, and reads one line from stdin otherwise.
pub(crate) fn secret(prompt: &str) -> Result<SecretString, Fault> {
    if io::stdin().is_terminal() { typed(prompt) } else { line() }
}

/// Typed at the terminal, without echo.
pub(crate) fn typed(prompt: &str) -> Result<SecretString, Fault> {
    let typed = unseen(prompt).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Fault::interrupted(),
        _ => Fault::local(format!("read from the terminal: {error}")).cure("give it as one line on stdin"),
    })?;
    given(Zeroizing::new(typed))
}

/// The same, but the return key alone is an answer too: nothing.
pub(crate) fn typed_or_nothing(prompt: &str) -> Result<Option<SecretString>, Fault> {
    let typed = unseen(prompt).map(Zeroizing::new).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Fault::interrupted(),
        _ => Fault::local(format!("read from the terminal: {error}")),
    })?;
    if typed.trim().is_empty() { Ok(None) } else { given(typed).map(Some) }
}

/// Prompts and reads without echo. The echo is off before the prompt is there: rpassword turns it off after, and what a scanner or a quick
/// hand types in between would be seen.
fn unseen(prompt: &str) -> io::Result<String> {
    let _quiet = Quiet::new();
    rpassword::prompt_password(prompt)
}

/// The terminal without echo, as long as this lives.
struct Quiet(Option<(OwnedFd, Termios)>);

impl Quiet {
    /// Without a terminal there is no echo; whoever reads will say that there is none.
    fn new() -> Quiet {
        let terminal = rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let settings = terminal.and_then(|terminal| Ok((rustix::termios::tcgetattr(&terminal)?, terminal)));
        let Ok((settings, terminal)) = settings else { return Quiet(None) };
        let mut quiet = settings.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // A terminal that refuses is asked once more by rpassword, whose error is told.
        let _ = rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &quiet);
        Quiet(Some((terminal, settings)))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some((terminal, settings)) = &self.0 {
            // A terminal that went away needs no settings.
            let _ = rustix::termios::tcsetattr(terminal, OptionalActions::Now, settings);
        }
    }
}

/// One line on stdin.
pub(crate) fn line() -> Result<SecretString, Fault> {
    // The final size at once: a buffer that grew would leave copies behind.
    let mut line = Zeroizing::new(String::with_capacity(LINE_BYTES_MAX as usize + 1));
    let read = io::stdin().lock().take(LINE_BYTES_MAX + 1).read_line(&mut line);
    read.map_err(|error| Fault::local(format!("read stdin: {error}")))?;
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Fault::local(format!("the line on stdin is longer than {LINE_BYTES_MAX} bytes")));
    }
    given(line)
}

fn given(text: Zeroizing<String>) -> Result<SecretString, Fault> {
    match text.trim() {
        "" => Err(Fault::local("nothing was given").cure("type it, or give it as one line on stdin")),
        text => Ok(SecretString::from(text.to_owned())),
    }
}
