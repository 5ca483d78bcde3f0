//! The world's DNS: what Route 53's zones hold, answered to whoever asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, NS};
use hickory_proto::rr::{RData, Record, RecordType};
use reqwest::dns::{Name, Resolve, Resolving};
use tokio::net::UdpSocket;

use super::{Shared, lock, xml};

/// Of the name server, on an address of its own.
pub(crate) const PORT: u16 = 53;
const TTL: u32 = 1;

/// The name server's address, and after it the instances': this one, or one of loopback that nobody else's emulator
/// has.
pub(crate) async fn bind(given: Option<Ipv4Addr>) -> (Ipv4Addr, UdpSocket) {
    if let Some(address) = given {
        return (address, UdpSocket::bind((address, PORT)).await.expect("a port for names"));
    }
    let start: u8 = rand::random_range(16..250);
    for second in (start..250).chain(16..start) {
        let address = Ipv4Addr::new(127, second, 0, 1);
        match UdpSocket::bind((address, PORT)).await {
            Ok(socket) => return (address, socket),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => panic!(
                "instances of emulated AWS answer at ports 80 and 443 of 127.{second}.0.x, and this user may not \
                 listen there: run the tests as root, or set net.ipv4.ip_unprivileged_port_start to 53"
            ),
            Err(_) => {}
        }
    }
    panic!("every address of loopback from 127.16.0.1 to 127.249.0.1 is in use at port {PORT}");
}

/// What the zones held, and as of which change.
#[derive(Default)]
pub(crate) struct Records {
    /// Counts changes that passed the proxy.
    version: AtomicU64,
    known: tokio::sync::Mutex<(u64, BTreeMap<String, Vec<Ipv4Addr>>)>,
}

impl Records {
    /// To be called after every call that may change a record.
    pub(crate) fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// Addresses of a name, as the zones say now.
pub(crate) async fn look_up(shared: &Shared, name: &str) -> Vec<Ipv4Addr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // Of many who ask at once one reads, and the others wait for what it finds.
    let mut known = shared.records.known.lock().await;
    let version = shared.records.version.load(Ordering::Acquire);
    if known.0 != version {
        *known = (version, read(shared).await);
    }
    let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let found = known.1.get(&name).or_else(|| known.1.get(&wildcard?));
    found.cloned().unwrap_or_default()
}

async fn read(shared: &Shared) -> BTreeMap<String, Vec<Ipv4Addr>> {
    let mut records = BTreeMap::new();
    for set in record_sets(shared).await.into_iter().filter(|set| set.kind == "A") {
        records.insert(set.name, set.values.iter().filter_map(|value| value.parse().ok()).collect());
    }
    records
}

/// A record set of Route 53.
pub(crate) struct RecordSet {
    /// Lower case, without the final dot.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) values: Vec<String>,
}

/// Every record set of every zone, from moto itself.
pub(crate) async fn record_sets(shared: &Shared) -> Vec<RecordSet> {
    let mut sets = Vec::new();
    for zone in zones(shared).await {
        let mut next = String::new();
        loop {
            let path = format!("/2013-04-01/hostedzone/{zone}/rrset?maxitems=300{next}");
            let page = shared.get("route53", &path).await;
            for set in xml::all(&page, "ResourceRecordSet") {
                let name = xml::text(set, "Name").unwrap_or_default().replace("\\052", "*");
                sets.push(RecordSet {
                    name: name.trim_end_matches('.').to_ascii_lowercase(),
                    kind: xml::text(set, "Type").unwrap_or_default().to_owned(),
                    values: xml::all(set, "Value").map(xml::plain).collect(),
                });
            }
            match (xml::text(&page, "NextRecordName"), xml::text(&page, "NextRecordType")) {
                (Some(name), Some(kind)) => next = format!("&name={}&type={kind}", name.replace('*', "\\052")),
                _ => break,
            }
        }
    }
    sets
}

/// Ids of the hosted zones.
pub(crate) async fn zones(shared: &Shared) -> Vec<String> {
    let list = shared.get("route53", "/2013-04-01/hostedzone").await;
    xml::all(&list, "Id").filter_map(|id| Some(id.rsplit_once('/')?.1.to_owned())).collect()
}

/// Whom the world asks about a domain: the zone of its name, to which it is delegated.
async fn name_servers(shared: &Shared, domain: &str) -> Vec<NS> {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    let sets = record_sets(shared).await.into_iter().filter(|set| set.kind == "NS" && set.name == domain);
    sets.flat_map(|set| set.values)
        .filter_map(|host| Some(NS(hickory_proto::rr::Name::from_ascii(host).ok()?)))
        .collect()
}

/// Answers questions for A and NS records until it is dropped.
pub(crate) async fn serve(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut buffer = [0; 1_232];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        tokio::spawn(async move {
            if let Ok(answer) = answer(&shared, question).await.to_vec() {
                drop(socket.send_to(&answer, from).await);
            }
        });
    }
}

async fn answer(shared: &Shared, question: Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    for query in &question.queries {
        if query.query_type() == RecordType::NS {
            let servers = name_servers(shared, &query.name().to_utf8()).await.into_iter();
            answer.answers.extend(servers.map(|host| Record::from_rdata(query.name().clone(), TTL, RData::NS(host))));
            answer.queries.push(query.clone());
            continue;
        }
        let found = look_up(shared, &query.name().to_utf8()).await;
        if found.is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        if query.query_type() == RecordType::A {
            let records = found.into_iter().map(|at| Record::from_rdata(query.name().clone(), TTL, RData::A(A(at))));
            answer.answers.extend(records);
        }
        answer.queries.push(query.clone());
    }
    answer
}

/// Resolves names for HTTP clients in this process.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

impl Resolver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Where a name leads now.
    pub async fn look_up(&self, name: &str) -> Vec<Ipv4Addr> {
        look_up(&self.0, name).await
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let found = look_up(&shared, name.as_str()).await;
            if found.is_empty() {
                return Err(format!("{} does not exist", name.as_str()).into());
            }
            let found = found.into_iter().map(|at| SocketAddr::new(IpAddr::V4(at), 0));
            Ok(Box::new(found) as reqwest::dns::Addrs)
        })
    }
}

/// When a change of records is everywhere, if it is not yet.
pub(crate) fn is_pending(shared: &Shared, change: &str) -> bool {
    let Some(latency) = &shared.behaviour.latency else { return false };
    lock(&shared.changes).get(change).is_some_and(|since| since.elapsed() < latency.in_sync)
}
