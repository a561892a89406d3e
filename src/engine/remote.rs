//! What this host lends to a connection to another machine: addresses of names, and whose certificates it
//! trusts. It opens no connection.

use std::net::IpAddr;

use crate::engine::host::Host;
use crate::engine::registries::network;
use crate::error::{Error, ErrorKind};
use crate::image::registry::http::{Network, certificates};
use crate::image::registry::resolve::{Getent, ResolveError};

/// Looks up names and certificates, by the host's own means.
#[derive(Debug)]
pub struct Remote {
    network: Network,
    getent: Getent,
}

impl Remote {
    /// Reads nothing yet.
    pub fn new(host: &Host) -> Self {
        let network = network(host);
        let getent = Getent::new(network.getent.clone());
        Self { network, getent }
    }

    /// Every address of a host, best first. Waits for the host's name services, up to their own deadline.
    ///
    /// # Errors
    /// When nobody knows the name, or nobody could be asked.
    pub fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        self.getent.addresses(host).map_err(|e| {
            let kind = ErrorKind::Unreachable;
            let error = Error::new(kind, e.to_string()).context(format!("cannot find `{host}`"));
            match e {
                ResolveError::NoGetent => {
                    error.hint("install it (Debian: `libc-bin`), or write the address itself")
                }
                ResolveError::Program(_) | ResolveError::NoHost(_) => error,
            }
        })
    }

    /// Looks a name up anew when it is next asked for: nobody answered at its addresses.
    pub fn forget(&self, host: &str) {
        self.getent.forget(host);
    }

    /// The certificates of the authorities that this host trusts, each in DER.
    ///
    /// # Errors
    /// When the file that holds them cannot be read; there may be none.
    pub fn authorities(&self) -> Result<Vec<Vec<u8>>, Error> {
        let found = self.network.authorities.iter().find(|path| path.is_file());
        let found = found.map(|path| certificates(path)).transpose()?.unwrap_or_default();
        Ok(found.iter().map(|certificate| certificate.to_vec()).collect())
    }
}
