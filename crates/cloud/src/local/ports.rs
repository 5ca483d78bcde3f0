//! Ports that an instance keeps for life.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

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

/// Tries before it is given up to find an address.
const TRIES: usize = 1_000;

/// These two ports on a loopback address (127.0.0.0/8) that none of `taken` is at.
pub(super) fn choose_address(taken: &[SocketAddr], ports: [u16; 2]) -> io::Result<[SocketAddr; 2]> {
    for _ in 0..TRIES {
        let [a, b, c] = rand::random::<[u8; 3]>();
        // Not 127.0.0.x, where others listen, nor what ends in 0 or 255.
        let address = IpAddr::from([127, a.max(1), b, c.clamp(1, 254)]);
        let free = |port: &u16| TcpListener::bind((address, *port)).is_ok();
        if taken.iter().all(|other| other.ip() != address) && ports.iter().all(free) {
            return Ok(ports.map(|port| SocketAddr::from((address, port))));
        }
    }
    Err(io::Error::other(format!("the ports {} and {} are not free on any loopback address", ports[0], ports[1])))
}

fn listenable(port: u16) -> Option<SocketAddr> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).is_ok().then_some(address)
}
