//! Secrets that people give: typed without echo, or one line on stdin.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use client::SecretString;
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
    let typed = rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Fault::interrupted(),
        _ => Fault::local(format!("read from the terminal: {error}")).cure("give it as one line on stdin"),
    })?;
    given(Zeroizing::new(typed))
}

/// The same, but the return key alone is an answer too: nothing.
pub(crate) fn typed_or_nothing(prompt: &str) -> Result<Option<SecretString>, Fault> {
    let typed = rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Fault::interrupted(),
        _ => Fault::local(format!("read from the terminal: {error}")),
    })?;
    if typed.trim().is_empty() { Ok(None) } else { given(typed).map(Some) }
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
