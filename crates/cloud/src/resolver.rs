//! What DNS says of a name, asked of one name server: a zone's own know a name at once, and do not remember that it
//! did not exist, as the system's resolver may for minutes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// For one answer; a datagram may be lost.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;
/// What a datagram holds at most without EDNS (RFC 1035, section 2.3.4).
const DATAGRAM: usize = 512;

/// Where a name leads (A records), also by an alias. Empty when it is not there.
///
/// # Errors
/// The server does not answer, or what it answers is no DNS.
pub async fn addresses(server: SocketAddr, name: &str) -> io::Result<Vec<IpAddr>> {
    let records = ask(server, name, RecordType::A).await?;
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    };
    Ok(records.iter().filter_map(address).collect())
}

/// Who answers for a domain (NS records): lower case, without the final dot, in order.
///
/// # Errors
/// As [`addresses`].
pub async fn name_servers(server: SocketAddr, domain: &str) -> io::Result<Vec<String>> {
    let records = ask(server, domain, RecordType::NS).await?;
    let host = |data: &RData| match data {
        RData::NS(host) => Some(host.0.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    };
    let mut found: Vec<String> = records.iter().filter_map(host).collect();
    found.sort();
    Ok(found)
}

/// The first that the system asks (resolv.conf(5)).
pub fn of_the_system() -> Option<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let first = text.lines().find_map(|line| line.trim().strip_prefix("nameserver"))?;
    Some(SocketAddr::new(first.trim().parse().ok()?, 53))
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> io::Result<Vec<RData>> {
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).map_err(io::Error::other)?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, kind));
    let question = question.to_vec().map_err(io::Error::other)?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    for _ in 0..TRIES {
        let socket = UdpSocket::bind((any, 0)).await?;
        // Whoever else sends to this port is not heard.
        socket.connect(server).await?;
        socket.send(&question).await?;
        let mut buffer = [0; DATAGRAM];
        let Ok(received) = timeout(PATIENCE, socket.recv(&mut buffer)).await else { continue };
        let answer = Message::from_vec(&buffer[..received?]).map_err(io::Error::other)?;
        let asked = Message::from_vec(&question).map_err(io::Error::other)?;
        if answer.metadata.id == asked.metadata.id && answer.queries == asked.queries {
            return Ok(answer.answers.into_iter().map(|record| record.data).collect());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("the name server {server} does not answer")))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    use super::*;

    /// Loses the first question, answers the next with another's id, and then rightly.
    async fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; DATAGRAM];
            for number in 0.. {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let id = question.metadata.id;
                let mut answer = Message::response(if number == 1 { !id } else { id }, question.metadata.op_code);
                answer.queries.clone_from(&question.queries);
                let name = question.queries[0].name().clone();
                if name.to_utf8() == "acme.stackpro.test." {
                    answer.add_answer(Record::from_rdata(name, 1, RData::A(A(Ipv4Addr::new(127, 9, 8, 7)))));
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                if number > 0 {
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_lost_or_foreign_answer_is_asked_for_again() {
        let server = server().await;
        assert_eq!(addresses(server, "acme.stackpro.test").await.unwrap(), [IpAddr::from([127, 9, 8, 7])]);
        assert!(addresses(server, "other.stackpro.test").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_given_up() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = addresses(silent.local_addr().unwrap(), "acme.stackpro.test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
