//! How the programs of a stack find each other with Podman: by a hosts file for each, which is written once their
//! addresses are known.
//!
//! Podman's name server is one for the whole machine, and deaf for a moment whenever any network comes or goes
//! (measured with aardvark-dns 1.4: of 5,700 questions beside 38 networks that came and went, 8 failed at once and 3
//! took 5 s): a client's pages would fail because another client's stack starts. It is asked only for what is not in
//! the file. Docker's answers each container by itself.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Container;

const OWN: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Where the file of a service lies.
pub(super) fn file(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.hosts"))
}

/// Writes the file of each service, from the containers that are there.
pub(super) fn write<'a>(
    folder: &Path,
    services: impl IntoIterator<Item = &'a String>,
    found: &[Container],
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    services.into_iter().try_for_each(|service| {
        let of = found.iter().find(|container| container.service == *service);
        replace(&file(folder, service), &hosts(of, found))
    })
}

/// Whom a container reaches, and at which address: those who share a network with it, itself included.
fn hosts(of: Option<&Container>, found: &[Container]) -> String {
    let mut text = OWN.to_owned();
    for own in of.iter().flat_map(|container| &container.networks) {
        for other in found.iter().flat_map(|container| &container.networks).filter(|other| other.name == own.name) {
            let line = [&other.address.to_string(), " ", &other.aliases.join(" "), "\n"];
            text.extend(line);
        }
    }
    text
}

/// In place, since it is mounted, and at one go, since it is read meanwhile: blank lines stand for what was longer.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let there = fs::read(path).unwrap_or_default();
    if there.trim_ascii_end() == text.as_bytes().trim_ascii_end() {
        return Ok(());
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().max(there.len()), b'\n');
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all_at(&bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Network;

    fn container(service: &str, networks: &[(&str, &str)]) -> Container {
        let network = |&(name, address): &(&str, &str)| Network {
            name: name.into(),
            address: address.parse().unwrap(),
            aliases: vec![service.into(), format!("{service}-1")],
        };
        let networks = networks.iter().map(network).collect();
        Container { service: service.into(), networks, ..Container::default() }
    }

    #[test]
    fn each_finds_those_with_whom_it_shares_a_network() {
        let folder = tempfile::tempdir().unwrap();
        let web = container("web", &[("back", "10.1.0.2"), ("front", "10.2.0.2")]);
        let found = [web, container("db", &[("back", "10.1.0.3")]), container("mail", &[("front", "10.2.0.3")])];
        let services = ["db", "mail", "new", "web"].map(String::from);
        let read = |service: &str| {
            let text = fs::read_to_string(file(folder.path(), service)).unwrap();
            text.strip_prefix(OWN).unwrap().trim_end().to_owned()
        };
        write(folder.path(), &services, &found).unwrap();
        let (back, front) = ("10.1.0.2 web web-1\n10.1.0.3 db db-1", "10.2.0.2 web web-1\n10.2.0.3 mail mail-1");
        assert_eq!(["db", "mail", "new"].map(read), [back, front, ""]);
        assert_eq!(read("web"), format!("{back}\n{front}"));

        write(folder.path(), &services, &found[..2]).unwrap();
        assert_eq!(["db", "mail", "new"].map(read), [back, "", ""]);
        assert_eq!(read("web"), format!("{back}\n10.2.0.2 web web-1"));
    }
}
