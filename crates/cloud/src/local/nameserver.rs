//! An authoritative name server for the zone, on loopback. Every query reads the records' files, so that
//! it never answers what is no longer so.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::dns::Records;

/// How long others may remember that a name does not exist, in seconds: shorter than a sign-up takes.
const NEGATIVE_TTL: u32 = 1;
const TTL: u32 = 60;
/// What fits into any UDP datagram unfragmented (DNS flag day 2020), in bytes.
const UDP_PAYLOAD: u16 = 1232;
const TCP_IDLE: Duration = Duration::from_secs(5);

/// A running name server; ends when dropped.
pub struct NameServer {
    address: SocketAddr,
    _server: Server<Zone>,
}

impl NameServer {
    pub(super) async fn start(records: Arc<Records>, address: SocketAddr) -> io::Result<Self> {
        let zone = Zone::new(records).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (udp, tcp) = bind(address).await?;
        let address = udp.local_addr()?;
        let mut server = Server::new(zone);
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, 32);
        Ok(Self { address, _server: server })
    }

    /// UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The same port twice. When any will do, one that UDP got may be taken for TCP: then another is tried.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if address.port() == 0 { 10 } else { 1 };
    loop {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if tries == 1 => return Err(error),
            Err(_) => tries -= 1,
        }
    }
}

struct Zone {
    records: Arc<Records>,
    origin: Name,
    server: Name,
    hostmaster: Name,
}

/// What is said to one question.
struct Answer {
    code: ResponseCode,
    answers: Vec<Record>,
    /// The SOA record, where there is no answer (RFC 2308).
    authority: Vec<Record>,
}

impl Zone {
    fn new(records: Arc<Records>) -> Result<Self, hickory_proto::ProtoError> {
        let name = |prefix: &str| Name::from_str(&format!("{prefix}{}.", records.zone));
        let (origin, server, hostmaster) = (name("")?, name("ns.")?, name("hostmaster.")?);
        Ok(Self { records, origin, server, hostmaster })
    }

    fn answer(&self, name: &Name, kind: RecordType) -> io::Result<Answer> {
        if !self.origin.zone_of(name) {
            return Ok(Answer { code: ResponseCode::Refused, answers: Vec::new(), authority: Vec::new() });
        }
        let text = name.to_lowercase().to_ascii();
        let text = text.trim_end_matches('.');
        let (known, texts) = (self.known(name, text)?, self.texts(name, text)?);
        let exists = known.is_some() || !texts.is_empty() || self.records.has_below(text)?;
        let mut answers = known.unwrap_or_default();
        answers.extend(texts);
        answers.retain(|record| kind == RecordType::ANY || record.record_type() == kind);
        let authority = if answers.is_empty() { vec![self.soa()] } else { Vec::new() };
        let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        Ok(Answer { code, answers, authority })
    }

    /// All records of a name; none when there is no such name, and empty when there are only names below.
    fn known(&self, name: &Name, text: &str) -> io::Result<Option<Vec<Record>>> {
        if *name == self.origin {
            let server = Record::from_rdata(name.clone(), TTL, RData::NS(NS(self.server.clone())));
            return Ok(Some(vec![self.soa(), server, loopback(name)]));
        }
        if *name == self.server {
            return Ok(Some(vec![loopback(name)]));
        }
        if let Some(host) = text.strip_prefix("_http._tcp.") {
            return Ok(self.records.read(host)?.map(|record| {
                let target = Name::from_str(&format!("{host}.")).unwrap_or_default();
                let service = RData::SRV(SRV::new(0, 0, record.target.port(), target));
                vec![Record::from_rdata(name.clone(), record.ttl_seconds, service)]
            }));
        }
        if let Some(host) = text.strip_prefix("_tcp.") {
            return Ok(self.records.read(host)?.map(|_| Vec::new()));
        }
        Ok(self.records.read(text)?.map(|record| {
            let address = match record.target {
                SocketAddr::V4(target) => RData::A(A(*target.ip())),
                SocketAddr::V6(target) => RData::AAAA(AAAA(*target.ip())),
            };
            vec![Record::from_rdata(name.clone(), record.ttl_seconds, address)]
        }))
    }

    /// Each value in pieces that a text record may have (RFC 1035, section 3.3).
    fn texts(&self, name: &Name, text: &str) -> io::Result<Vec<Record>> {
        let values = self.records.read_texts(text)?.into_iter();
        let record = |value: String| {
            let pieces = value.as_bytes().chunks(255).map(|piece| String::from_utf8_lossy(piece).into_owned());
            Record::from_rdata(name.clone(), NEGATIVE_TTL, RData::TXT(TXT::new(pieces.collect())))
        };
        Ok(values.map(record).collect())
    }

    fn soa(&self) -> Record {
        let (server, hostmaster) = (self.server.clone(), self.hostmaster.clone());
        let soa = SOA::new(server, hostmaster, self.records.serial(), 3600, 600, 86_400, NEGATIVE_TTL);
        Record::from_rdata(self.origin.clone(), NEGATIVE_TTL, RData::SOA(soa))
    }

    fn answer_request(&self, request: &Request) -> Answer {
        let failed = |code| Answer { code, answers: Vec::new(), authority: Vec::new() };
        let Ok(info) = request.request_info() else { return failed(ResponseCode::FormErr) };
        if request.metadata.op_code != OpCode::Query {
            return failed(ResponseCode::NotImp);
        }
        if info.query.query_class() != DNSClass::IN {
            return failed(ResponseCode::Refused);
        }
        self.answer(info.query.name(), info.query.query_type()).unwrap_or_else(|error| {
            tracing::warn!(%error, "a DNS question cannot be answered");
            failed(ResponseCode::ServFail)
        })
    }
}

/// The edge listens here.
fn loopback(name: &Name) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::A(A::new(127, 0, 0, 1)))
}

#[async_trait]
impl RequestHandler for Zone {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut to: R) -> ResponseInfo {
        let answer = self.answer_request(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &answer.answers, [], &answer.authority, []);
        to.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a DNS answer could not be sent");
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}
