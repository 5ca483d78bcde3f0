//! What `doctor` asks of the local cloud.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use super::{LocalCloud, files, ports};
use crate::{Check, Checks, InstanceState};

type Found = (&'static str, io::Result<String>);

#[async_trait]
impl Checks for LocalCloud {
    async fn all(&self) -> Vec<Check> {
        let launch = self.before_launch().await;
        let rest = self.look(|cloud| {
            vec![
                ("clock", Ok(format!("{} s ahead of the system's", cloud.clock.offset() / 1000))),
                ("name server's port", cloud.check_dns(cloud.dns_port)),
                ("instances", cloud.check_instances()),
                ("mail", cloud.check_mail()),
            ]
        });
        launch.into_iter().chain(rest.await).collect()
    }

    async fn before_launch(&self) -> Vec<Check> {
        self.look(|cloud| {
            vec![
                ("data folder", cloud.check_folder()),
                ("agent program", cloud.check_program()),
                ("instance ports", ports::choose(&[]).map(|[first, _]| format!("free from {} on", first.port()))),
            ]
        })
        .await
    }
}

impl LocalCloud {
    /// Looks on a thread that may block, for at most a second.
    async fn look(&self, work: fn(&Self) -> Vec<Found>) -> Vec<Check> {
        let cloud = self.clone();
        let found = tokio::task::spawn_blocking(move || work(&cloud)).await;
        let found = found.unwrap_or_else(|error| vec![("local cloud", Err(io::Error::other(error)))]);
        let check =
            |(name, found): Found| Check { name: name.to_owned(), found: found.map_err(|error| error.to_string()) };
        found.into_iter().map(check).collect()
    }

    fn check_folder(&self) -> io::Result<String> {
        let probe = files::hidden(&self.folder, "new");
        fs::write(&probe, "writable?")?;
        fs::remove_file(&probe)?;
        Ok(format!("{} can be written to", self.folder.display()))
    }

    fn check_program(&self) -> io::Result<String> {
        let path = &self.fleet.program.path;
        let metadata = fs::metadata(path)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            Ok(path.display().to_string())
        } else {
            Err(io::Error::other(format!("{} is not a program", path.display())))
        }
    }

    fn check_mail(&self) -> io::Result<String> {
        if self.faults.settings().mail_sandbox {
            return Err(io::Error::other(super::mail::SANDBOX));
        }
        Ok("lands in the mailbox".to_owned())
    }

    /// Free, or held by a name server for our zone, which then is ours.
    fn check_dns(&self, port: u16) -> io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bind = || UdpSocket::bind(address).and_then(|udp| TcpListener::bind(udp.local_addr()?));
        // When any port will do, one that UDP got may be taken for TCP: then another is tried.
        let mut bound = bind();
        for _ in 0..if port == 0 { 10 } else { 0 } {
            if bound.is_err() {
                bound = bind();
            }
        }
        match bound {
            Ok(_) => Ok(format!("{address} is free")),
            Err(_) if answers_for(&self.records.zone, address).unwrap_or(false) => {
                Ok(format!("a running server answers for {} on {address}", self.records.zone))
            }
            Err(error) => Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
        }
    }

    fn check_instances(&self) -> io::Result<String> {
        let half = self.fleet.ids()?.into_iter().filter(|id| self.fleet.tombstone(id).exists());
        let half: Vec<String> = half.map(String::from).collect();
        if !half.is_empty() {
            let what = "half terminated, which a start of the server finishes";
            return Err(io::Error::other(format!("{what}: {}", half.join(", "))));
        }
        let states: Vec<_> = self.fleet.list()?.into_iter().map(|instance| instance.state).collect();
        let count = |state| states.iter().filter(|other| **other == state).count();
        let (running, stopped) = (count(InstanceState::Running), count(InstanceState::Stopped));
        Ok(format!("{running} running, {stopped} stopped (the server starts them)"))
    }
}

fn answers_for(zone: &str, server: SocketAddr) -> io::Result<bool> {
    let name = Name::from_str(&format!("{zone}.")).map_err(io::Error::other)?;
    let mut question = Message::query();
    question.add_query(Query::query(name, RecordType::SOA));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(&question.to_vec().map_err(io::Error::other)?, server)?;
    let mut buffer = [0; 1500];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let answer = Message::from_vec(&buffer[..length]).map_err(io::Error::other)?;
    Ok(from == server && answer.metadata.authoritative && !answer.answers.is_empty())
}
