//! `tag`, `rmi`, `image prune`, `system prune`: names and images come and go, each change with a line in
//! the audit.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::audit;
use crate::container::idspace;
use crate::engine::catalog::{self, folder_bytes};
use crate::engine::filters::Filters;
use crate::engine::host::Host;
use crate::engine::storage;
use crate::error::{Error, ErrorKind};
use crate::image::index::Index;
use crate::image::removal::{self, By, Conflict, Gone};
use crate::image::store::found;
use crate::names::{ContainerId, Digest, ImageReference};
use crate::sys::fs::remove_tree;

/// What went, and how many bytes of the disk with it.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Images and names.
    pub images: Vec<Gone>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Bytes.
    pub bytes: u64,
}

/// Lets `name` mean what `source` means.
///
/// # Errors
/// `NotFound`, `Usage` for a name with a digest, or what is wrong with the store.
pub fn tag(host: &Host, source: &str, name: &str) -> Result<(), Error> {
    let (source, name): (ImageReference, ImageReference) = (source.parse()?, name.parse()?);
    if name.digest().is_some() {
        let error = Error::new(ErrorKind::Usage, "refusing to create a tag with a digest reference");
        return Err(error.hint("leave the part from `@` on out"));
    }
    let ids = storage::open(host)?.tag(&source, &name)?;
    record(host, "tag", &name.familiar(), ids.first())
}

/// Takes away what `text` names, by Docker's rules.
///
/// # Errors
/// `NotFound`, `State` with Docker's words for a conflict, or what is wrong with the store.
pub fn remove(host: &Host, text: &str, is_forced: bool) -> Result<Vec<Gone>, Error> {
    let reference: ImageReference = text.parse()?;
    let store = storage::open(host)?;
    // Who asks for what is not there waits for nobody.
    found(&store.index()?, &reference)?;
    let (gone, _bytes) = storage::collect(host, store.begin_collection()?, |index, uses| {
        let (ids, by_id) = found(index, &reference)?;
        let mut gone: Vec<Gone> = Vec::new();
        let mut after = index.clone();
        for id in &ids {
            let name = spelled(index, &reference, id).filter(|_| !by_id);
            let by = name.as_ref().map_or(By::Id, By::Name);
            let more = removal::remove(&mut after, id, by, is_forced, &uses.images);
            for one in more.map_err(|conflict: Conflict| Error::from(conflict))? {
                // A name of several images goes from each of them, and is told once.
                if !gone.contains(&one) {
                    gone.push(one);
                }
            }
        }
        *index = after;
        Ok::<_, Error>(gone)
    })?;
    let id = gone.iter().find_map(|gone| match gone {
        Gone::Deleted(id) => Some(id),
        Gone::Untagged(_) | Gone::Layers(_) => None,
    });
    record(host, "rmi", &reference.familiar(), id)?;
    Ok(gone)
}

/// The name of the image as the index has it, when the reference is one of its names.
fn spelled(index: &Index, reference: &ImageReference, id: &Digest) -> Option<ImageReference> {
    index.names_of(id).into_iter().find(|name| {
        let same = name.domain() == reference.domain() && name.repository() == reference.repository();
        // A digest says enough: a tag beside it is not looked at.
        same && match reference.digest() {
            Some(digest) => name.digest() == Some(digest),
            None => name == reference,
        }
    })
}

/// Takes away the images that nobody needs: those without a tag, or with `all` every one that no container
/// was made of.
///
/// # Errors
/// What is wrong with the store.
pub fn prune_images(host: &Host, all: bool, filters: &Filters, verb: &str) -> Result<Pruned, Error> {
    let store = storage::open(host)?;
    let all = all || filters.dangling == Some(false);
    // Looked at before anybody has to wait; what came since stays.
    let mut unfit: BTreeMap<Digest, bool> = BTreeMap::new();
    if filters.asks_for_labels() {
        let _stays = store.enter()?;
        for id in store.index()?.images.keys() {
            unfit.insert(id.clone(), !filters.fits_labels(&catalog::labels(&store, id)?));
        }
    }
    let (images, bytes) = storage::collect(host, store.begin_collection()?, |index, uses| {
        Ok::<_, Error>(removal::prune(index, all, &uses.images, |id, record| {
            let is_unfit = filters.asks_for_labels() && unfit.get(id).is_none_or(|unfit| *unfit);
            is_unfit || !filters.fits_until(catalog::created_s(record))
        }))
    })?;
    for gone in &images {
        match gone {
            Gone::Untagged(name) => record(host, verb, &name.familiar(), None)?,
            Gone::Deleted(id) => record(host, verb, "", Some(id))?,
            Gone::Layers(_) => {}
        }
    }
    Ok(Pruned { images, volumes: Vec::new(), bytes })
}

/// A volume younger than this, in seconds, may be that of a container that is being started: no start
/// takes longer.
const START_MAX_S: i64 = 60;

/// Takes away volumes without a name of a person that no container uses.
///
/// # Errors
/// What the kernel says.
pub fn prune_volumes(host: &Host) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    let uses = storage::uses(host)?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(host.data.join("volumes")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let changed_s = entry.metadata().map_or(i64::MAX, |meta| meta.mtime());
        let is_old = changed_s.saturating_add(START_MAX_S) < catalog::now_s();
        if is_old && name.parse::<ContainerId>().is_ok() && !uses.volumes.contains(&entry.path()) {
            pruned.bytes += folder_bytes(&entry.path());
            folders.push(entry.path());
            pruned.volumes.push(name);
        }
    }
    pruned.volumes.sort();
    let remove = || folders.iter().try_for_each(|folder| remove_tree(folder)).map_err(Error::from);
    match (remove(), host.subordinate_map()) {
        (Err(error), Some(map)) if error.kind == ErrorKind::Denied => idspace::inside(&map, remove)?,
        (other, _) => other?,
    }
    pruned.volumes.iter().try_for_each(|name| record(host, "system prune", name, None))?;
    Ok(pruned)
}

fn record(host: &Host, verb: &str, object: &str, id: Option<&Digest>) -> Result<(), Error> {
    let id = id.map(Digest::as_str).unwrap_or_default();
    let asked = audit::Asked { uid: host.uid, verb, object, id };
    Ok(audit::append(&host.data, &asked, audit::Outcome::Ended(0))?)
}
