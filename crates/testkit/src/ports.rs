//! Addresses for servers that are told where to listen, and that come back there after a restart.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those of local instances, and of those that the system gives to whoever asks for any or connects somewhere:
/// one of these may be taken before the server listens, or while it is away.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// An address on loopback where nobody listens, with TCP or UDP; another one each time, at another place in each process.
pub fn free_address() -> SocketAddr {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    let next = || SocketAddr::from(([127, 0, 0, 1], FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT));
    let free = |address: &SocketAddr| TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
    std::iter::repeat_with(next).take(COUNT.into()).find(free).expect("a free port")
}
