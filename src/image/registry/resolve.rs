//! Names of hosts into addresses, by the host's own `getent`: a static program cannot load the C
//! library's name services. It opens no connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::image::registry::program::{ProgramError, ask};

/// How long a name server may take, in seconds: resolv.conf(5) gives three servers two tries of 5 s.
const RESOLVE_S: u64 = 30;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no program that could be asked.
    #[error("`getent` is not installed, and it is what names of hosts are looked up with")]
    NoGetent,
    /// It could not be asked.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nobody knows the name.
    #[error("there is no host `{0}`")]
    NoHost(String),
}

/// Looks names up once.
#[derive(Debug, Default)]
pub struct Getent {
    /// Where `getent` is.
    pub program: Option<PathBuf>,
    known: Mutex<BTreeMap<String, Vec<IpAddr>>>,
}

impl Getent {
    /// Asks the `getent` at `program`.
    pub fn new(program: Option<PathBuf>) -> Self {
        Self { program, known: Mutex::default() }
    }

    /// Looks a name up anew when it is next asked for: its addresses may have changed.
    pub fn forget(&self, host: &str) {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(host);
    }

    /// Every address of a host, best first.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let no_host = || ResolveError::NoHost(host.to_owned());
        if host.is_empty() || host.starts_with('-') {
            return Err(no_host());
        }
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(addresses) = known.get(host) {
            return Ok(addresses.clone());
        }
        let program = self.program.as_ref().ok_or(ResolveError::NoGetent)?;
        let spoken = ask(program, &["ahosts", host], b"", RESOLVE_S)?;
        let addresses = parse(&String::from_utf8_lossy(&spoken.text));
        if addresses.is_empty() {
            return Err(no_host());
        }
        known.insert(host.to_owned(), addresses.clone());
        Ok(addresses)
    }
}

/// `getent ahosts` writes a line for each address and kind of socket.
fn parse(text: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) && found.len() < ADDRESSES_MAX {
            found.push(address);
        }
    }
    found
}

impl Resolver for Getent {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let addresses = self.addresses(host).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        let mut resolved = self.empty();
        for address in addresses {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_getent_says_is_read() {
        let text =
            "140.82.121.3    STREAM github.com\n140.82.121.3    DGRAM\n2606:50c0::1 STREAM\n\nnonsense\n";
        assert_eq!(parse(text), ["140.82.121.3".parse::<IpAddr>().unwrap(), "2606:50c0::1".parse().unwrap()]);
    }

    #[test]
    fn addresses_and_this_machine_need_no_program() {
        let none = Getent::new(None);
        assert_eq!(none.addresses("[::1]").unwrap(), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(none.addresses("localhost").unwrap().len(), 2);
        assert!(matches!(none.addresses("registry.example"), Err(ResolveError::NoGetent)));
        assert!(matches!(none.addresses("-s"), Err(ResolveError::NoHost(_))));
    }

    #[test]
    fn a_name_of_the_hosts_file_is_found() {
        let getent = ["/usr/bin/getent", "/bin/getent"].map(PathBuf::from).into_iter().find(|p| p.is_file());
        let Some(getent) = getent else { return println!("SKIPPED: getent: not on this host") };
        let found = Getent::new(Some(getent.clone())).addresses("localhost.localdomain");
        // Not every host knows this name; what is known is this machine.
        assert!(found.is_err() || found.unwrap().iter().all(IpAddr::is_loopback));
        assert!(matches!(
            Getent::new(Some(getent)).addresses("no.such.host.invalid"),
            Err(ResolveError::NoHost(_))
        ));
    }
}
