//! `load`, `import`, `images`.
use crate::cli::args::{Images, Import, Load};
use crate::engine::host::Host;
use crate::error::{Error, ErrorKind};
/// x
pub fn load(_h: &Host, _a: Load) -> Result<(), Error> { Err(Error::new(ErrorKind::Unsupported, "not yet")) }
/// x
pub fn import(_h: &Host, _a: &Import) -> Result<(), Error> { Err(Error::new(ErrorKind::Unsupported, "not yet")) }
/// x
pub fn list(_h: &Host, _a: &Images) -> Result<(), Error> { Err(Error::new(ErrorKind::Unsupported, "not yet")) }
