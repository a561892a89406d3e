//! Pure: what cgroups are asked to enforce. (stand-in until the branch lands)
use serde::{Deserialize, Serialize};
/// Limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {}
