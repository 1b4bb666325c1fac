//! Tells whoever supervises the process (systemd, `Type=notify`) that it serves, reads its configuration again, stops, and lives:
//! datagrams to the socket that `NOTIFY_SOCKET` names, as sd_notify(3) describes them.
//!
//! Always: without such a socket nothing happens, and nothing waits for the supervisor.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The way to the supervisor.
pub(crate) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long the supervisor waits for a sign of life before it kills the process.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names, if any.
    pub(crate) fn of_environment() -> Supervisor {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let socket = variable("NOTIFY_SOCKET").and_then(|path| match connect(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the supervisor's socket (NOTIFY_SOCKET) cannot be used");
                None
            }
        });
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Supervisor { socket, watchdog }
    }

    /// It serves, sealed or not.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// It reads its configuration again; [`Supervisor::ready`] ends that.
    pub(crate) fn reloading(&self) {
        self.tell("RELOADING=1");
    }

    /// It stops.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A sentence for who asks how it is.
    pub(crate) fn status(&self, text: &str) {
        self.tell(&format!("STATUS={text}"));
    }

    /// Gives signs of life until `stop`, twice as often as the supervisor wants them: so a process that hangs is started anew.
    pub(crate) async fn live(&self, stop: CancellationToken) {
        let Some(watchdog) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        loop {
            self.tell("WATCHDOG=1");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(watchdog / 2) => {}
            }
        }
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, "the supervisor was not told");
        }
    }
}

/// A path, or `@name` in the abstract namespace.
fn connect(path: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes())?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervised(path: &str, watchdog: Option<Duration>) -> Supervisor {
        Supervisor { socket: Some(connect(path).unwrap()), watchdog }
    }

    #[tokio::test]
    async fn a_supervisor_hears_what_it_was_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let hear = || {
            let mut bytes = [0; 64];
            let length = heard.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let supervisor = supervised(path.to_str().unwrap(), Some(Duration::from_millis(20)));
        supervisor.ready();
        supervisor.status("serving, sealed");
        supervisor.reloading();
        supervisor.stopping();
        for want in ["READY=1", "STATUS=serving, sealed", "RELOADING=1", "STOPPING=1"] {
            assert_eq!(hear(), want);
        }
        let stop = CancellationToken::new();
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        };
        tokio::join!(supervisor.live(stop.clone()), stopping);
        heard.set_nonblocking(true).unwrap();
        let mut signs = 0;
        while heard.recv(&mut [0; 64]).is_ok() {
            signs += 1;
        }
        assert!((2..=11).contains(&signs), "{signs}");
    }

    #[test]
    fn nobody_listening_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        supervised(folder.path().join("none").to_str().unwrap(), None).ready();
        supervised("@conclave-test-nobody", None).ready();
        Supervisor { socket: None, watchdog: None }.ready();
    }
}
