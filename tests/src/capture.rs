//! What crosses the machine's network while a test runs, as a packet socket sees it. Needs root.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket_with};

/// `ETH_P_ALL`, in network byte order.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;
/// The kernel keeps so much for us: far more than a ceremony sends.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;
const FRAME_BYTES_MAX: usize = 256 * 1024;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Captures every frame of every interface until it is stopped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl Capture {
    /// Begins.
    ///
    /// # Errors
    /// What the system said: mostly that it takes root.
    pub fn start() -> io::Result<Capture> {
        let protocol = NonZeroU32::new(ALL_PROTOCOLS).map(Protocol::from_raw);
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, rustix::net::SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(LOOK_INTERVAL))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut all, mut frame) = (Vec::new(), vec![0; FRAME_BYTES_MAX]);
            loop {
                match recv(&socket, &mut frame[..], RecvFlags::empty()) {
                    Ok((length, _)) => all.extend_from_slice(&frame[..length.min(FRAME_BYTES_MAX)]),
                    // Nothing is left that was sent before the stop.
                    Err(_) if stopped.load(Ordering::Acquire) => return all,
                    Err(_) => {}
                }
            }
        });
        Ok(Capture { stop, thread })
    }

    /// Ends. All frames, one after another.
    pub fn stop(self) -> Vec<u8> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the capturing thread does not panic")
    }
}
