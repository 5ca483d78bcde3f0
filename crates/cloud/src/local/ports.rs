//! Ports that an instance keeps for life.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below what Linux, macOS and Windows give to outgoing connections, which could otherwise take a port
/// while its instance is stopped.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Two loopback addresses that nobody listens on and that are not in `taken`.
pub(super) fn choose(taken: &[u16]) -> io::Result<[SocketAddr; 2]> {
    let start = rand::random_range(FIRST..=LAST);
    let mut free = (start..=LAST).chain(FIRST..start).filter(|port| !taken.contains(port)).filter_map(listenable);
    match (free.next(), free.next()) {
        (Some(front), Some(control)) => Ok([front, control]),
        _ => Err(io::Error::other(format!("no two ports are free from {FIRST} to {LAST}"))),
    }
}

fn listenable(port: u16) -> Option<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).is_ok().then_some(address)
}
