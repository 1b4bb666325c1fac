//! The terminal while it shows something live: another screen, no cursor, keys without Enter. As it was, once dropped.

use std::io::{self, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::view::WIDTH_DEFAULT;
use crate::fault::Fault;
use crate::output;

const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";
const HEIGHT_DEFAULT: usize = 24;
/// Keys that may wait.
const KEYS_MAX: usize = 16;

/// The terminal, while this lives.
pub(crate) struct Screen {
    /// `None`: stdin is no terminal, so there are no keys.
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
}

impl Screen {
    /// Takes the terminal over. Without one at stdout there is none to take.
    pub(crate) fn open() -> Result<Option<Screen>, Fault> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        let (send, keys) = mpsc::channel(KEYS_MAX);
        let before = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        if let Some(before) = &before {
            let mut live = before.clone();
            // Signals stay: Ctrl-C ends it as it ends all else.
            live.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            live.special_codes[SpecialCodeIndex::VMIN] = 1;
            live.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(io::stdin(), OptionalActions::Now, &live).map_err(|error| Fault::local(format!("the terminal: {error}")))?;
            // Ends with the process: a read cannot be given up.
            let read = move || {
                let mut key = [0];
                while matches!(io::stdin().read(&mut key), Ok(1)) && send.blocking_send(key[0]).is_ok() {}
            };
            let _ = std::thread::Builder::new().name("keys".to_owned()).spawn(read);
        }
        output::emit(ENTER)?;
        Ok(Some(Screen { before, keys }))
    }

    /// The next key. Never, where there are none.
    pub(crate) async fn key(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Draws these lines in the place of what is there; those that have no room are left out.
    pub(crate) fn draw(&self, lines: &[String]) -> Result<(), Fault> {
        let (_, height) = size();
        let shown: Vec<String> = lines.iter().take(height).map(|line| format!("{line}{CLEAR_LINE}")).collect();
        output::emit(&format!("{HOME}{}{CLEAR_BELOW}", shown.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = output::emit(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Columns and rows of the terminal at stdout, as it is now.
pub(crate) fn size() -> (usize, usize) {
    let of = |size: u16, default: usize| if size == 0 { default } else { usize::from(size) };
    tcgetwinsize(io::stdout())
        .map_or((WIDTH_DEFAULT, HEIGHT_DEFAULT), |size| (of(size.ws_col, WIDTH_DEFAULT), of(size.ws_row, HEIGHT_DEFAULT)))
}
