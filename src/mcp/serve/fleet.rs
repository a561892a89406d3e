//! The sandboxes of one server, by name.
//!
//! A name is taken before its sandbox is made, so that two calls cannot both have it; everything that
//! takes time happens outside the lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::engine::boxes::{BoxRequest, Sandbox};
use crate::mcp::serve::jobs::Jobs;
use crate::mcp::toolbox::Failure;
use crate::names::Name;

/// One sandbox, with what was asked for and its commands.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it was made from; its limits change.
    pub request: Mutex<BoxRequest>,
    /// Itself.
    pub sandbox: Sandbox,
    /// Its commands.
    pub jobs: Jobs,
}

impl Member {
    /// As it is listed.
    pub fn describe(&self) -> Value {
        let request = lock(&self.request);
        let workspaces: Vec<Value> = request
            .workspaces
            .iter()
            .map(|(path, read_only)| json!({ "path": path, "read_only": read_only }))
            .collect();
        let ended = self.sandbox.ended();
        let mut value = json!({
            "sandbox": self.name,
            "id": self.sandbox.id,
            "state": if ended.is_some() { "stopped" } else { "running" },
            "image": request.image,
            "network": request.network,
            "workspaces": workspaces,
            "commands_running": self.jobs.running(),
            "warnings": self.sandbox.warnings,
        });
        if let Some((_, Some(error))) = ended {
            value["reason"] = json!(error.to_string());
        }
        value
    }
}

/// A place in the fleet.
#[derive(Debug)]
enum Berth {
    /// Its sandbox is being made.
    Taken,
    /// It is there.
    Filled(Arc<Member>),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Fleet {
    berths: Mutex<(u64, BTreeMap<String, Berth>)>,
}

/// A mutex that a panic does not close: what it guards is whole after each statement.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Makes a sandbox under a name, or one that is made up.
    ///
    /// # Errors
    /// `exists`, `limit`, or what `make` says: the name is free again then.
    pub fn add(
        &self,
        name: Option<&str>,
        most: usize,
        make: impl FnOnce(&str) -> Result<Member, Failure>,
    ) -> Result<Arc<Member>, Failure> {
        let name = self.take(name, most)?;
        match make(&name) {
            Ok(member) => {
                let member = Arc::new(member);
                lock(&self.berths).1.insert(name, Berth::Filled(Arc::clone(&member)));
                Ok(member)
            }
            Err(failure) => {
                lock(&self.berths).1.remove(&name);
                Err(failure)
            }
        }
    }

    fn take(&self, asked: Option<&str>, most: usize) -> Result<String, Failure> {
        let mut berths = lock(&self.berths);
        if berths.1.len() >= most {
            let text = format!("there are {most} sandboxes, and that is the most");
            return Err(Failure::new("limit", text).hint("remove one: sandbox_remove"));
        }
        let name = match asked {
            Some(name) => name
                .parse::<Name>()
                .map_err(|e| Failure::new("invalid_arguments", e.to_string()))?
                .as_str()
                .to_owned(),
            None => loop {
                berths.0 += 1;
                let name = format!("sandbox-{}", berths.0);
                if !berths.1.contains_key(&name) {
                    break name;
                }
            },
        };
        if berths.1.contains_key(&name) {
            return Err(Failure::new("exists", format!("there is a sandbox `{name}` already"))
                .hint("choose another name, or remove that one"));
        }
        berths.1.insert(name.clone(), Berth::Taken);
        Ok(name)
    }

    /// The sandbox of a name.
    ///
    /// # Errors
    /// `not_found`, with the names there are.
    pub fn get(&self, name: &str) -> Result<Arc<Member>, Failure> {
        let berths = lock(&self.berths);
        match berths.1.get(name) {
            Some(Berth::Filled(member)) => Ok(Arc::clone(member)),
            Some(Berth::Taken) => {
                Err(Failure::new("state", format!("the sandbox `{name}` is being made")).retryable())
            }
            None => {
                let names: Vec<&str> = berths.1.keys().map(String::as_str).collect();
                let hint = if names.is_empty() {
                    "there is none yet: sandbox_create".to_owned()
                } else {
                    format!("there are: {}", names.join(", "))
                };
                Err(Failure::new("not_found", format!("there is no sandbox `{name}`")).hint(hint))
            }
        }
    }

    /// Takes a sandbox out.
    ///
    /// # Errors
    /// `not_found`.
    pub fn remove(&self, name: &str) -> Result<Arc<Member>, Failure> {
        let member = self.get(name)?;
        lock(&self.berths).1.remove(name);
        Ok(member)
    }

    /// All that are there, by name.
    pub fn all(&self) -> Vec<Arc<Member>> {
        let berths = lock(&self.berths);
        let member = |berth: &Berth| match berth {
            Berth::Filled(member) => Some(Arc::clone(member)),
            Berth::Taken => None,
        };
        berths.1.values().filter_map(member).collect()
    }
}
