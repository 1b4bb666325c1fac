//! `conclave` as a person at a terminal runs it: asked without echo, and shown what fits.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::Command;

/// How long a prompt, or the end, may take.
const WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
const ROWS: u16 = 24;

/// A command at a terminal of its own. Killed when dropped.
pub struct Terminal {
    master: File,
    child: Child,
    line: String,
    /// All that the screen has shown, without carriage returns.
    shown: String,
    /// How much of it was waited for already.
    waited: usize,
}

impl Command {
    /// Starts it at a terminal of so many columns, which is its controlling one.
    pub fn at_terminal(self, columns: u16) -> Terminal {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("the system has terminals");
        rustix::pty::grantpt(&master).expect("a new terminal can be granted");
        rustix::pty::unlockpt(&master).expect("a new terminal can be unlocked");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("a terminal has a name");
        let name = name.into_string().expect("a terminal's name is text");
        let open = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).expect("the terminal can be opened")
        };
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).expect("a terminal has a size");
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).expect("a terminal need not block");
        // A session of its own, whose terminal this is: what is typed unseen is read from there.
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(self.inner.get_program()).args(self.inner.get_args());
        for (name, value) in self.inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(open()));
        let child = command.spawn().unwrap_or_else(|error| panic!("run setsid conclave {}: {error}", self.line));
        Terminal { master: File::from(master), child, line: self.line, shown: String::new(), waited: 0 }
    }
}

impl Terminal {
    /// Waits until the screen shows this, after what was waited for before; returns what came up to it.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(at) = self.shown[self.waited..].find(text) {
                let end = self.waited + at + text.len();
                let came = self.shown[self.waited..end].to_owned();
                self.waited = end;
                return came;
            }
            let is_open = self.read();
            assert!(
                is_open && Instant::now() < deadline,
                "conclave {}: {text:?} does not come: {:?}",
                self.line,
                &self.shown[self.waited..]
            );
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, text: &str) {
        self.master.write_all(format!("{text}\n").as_bytes()).expect("a terminal takes what is typed");
    }

    /// The arguments of every process of conclave, as anybody on the machine can see them.
    pub fn seen_from_outside(&self) -> String {
        let mut seen = String::new();
        for entry in std::fs::read_dir("/proc").expect("there is /proc").flatten() {
            let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
            if command_line.contains("conclave") {
                seen.push_str(&command_line);
            }
        }
        seen
    }

    /// All that the screen has shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Waits for the end; returns the exit code and all that the screen has shown.
    pub fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + WAIT;
        loop {
            let is_open = self.read();
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                while self.read() && !self.is_drained() {}
                return (status.code(), std::mem::take(&mut self.shown));
            }
            assert!(Instant::now() < deadline, "conclave {} does not end: {:?}", self.line, self.shown);
            if !is_open {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Whether nothing more can be read now.
    fn is_drained(&mut self) -> bool {
        let before = self.shown.len();
        self.read();
        self.shown.len() == before
    }

    /// Takes what there is; false once the other end is closed.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.shown.push_str(&String::from_utf8_lossy(&buffer[..length]).replace('\r', ""));
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(PAUSE);
                true
            }
            // The last of the other ends was closed.
            Err(_) => false,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
