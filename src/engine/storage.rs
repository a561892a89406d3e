//! The store of this host: opened and cleared up, with what the containers of this host need of it.
//!
//! `image` does not know containers and `container` knows no images; here the two meet.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::container::idspace;
use crate::container::state::{self, Record};
use crate::engine::host::Host;
use crate::error::{Error, ErrorKind};
use crate::image::garbage::{Collection, Garbage};
use crate::image::index::Index;
use crate::image::removal::ImageUse;
use crate::image::store::Store;
use crate::names::{ContainerId, Name};

/// What the containers of this host need.
#[derive(Debug, Default)]
pub struct Uses {
    /// Their images.
    pub images: Vec<ImageUse>,
    /// Folders of layers that they have mounted.
    pub folders: BTreeSet<PathBuf>,
    /// Folders of volumes that end with them.
    pub volumes: BTreeSet<PathBuf>,
    /// They themselves.
    pub containers: Vec<ContainerUse>,
}

/// One container that runs.
#[derive(Debug)]
pub struct ContainerUse {
    /// Its id.
    pub id: ContainerId,
    /// Its folder.
    pub folder: PathBuf,
    /// Its image as typed.
    pub image: String,
    /// Its name.
    pub name: Option<Name>,
    /// How many volumes end with it.
    pub volumes: usize,
}

/// The store, without what dead commands left in it.
///
/// # Errors
/// What is wrong with the store.
pub fn open(host: &Host) -> Result<Store, Error> {
    host.open_data()?;
    let store = Store::open(&host.data)?;
    if !store.is_clean()
        && let Some(map) = host.subordinate_map()
    {
        // Files of other ids. What stays even so is in nobody's way, and the next command tries again.
        let _tried = idspace::inside(&map, || Ok(store.sweep().map(|_is_clean| ())?));
    }
    if store.owes_collection()? {
        // Containers that are being started come first: the next command collects then.
        match store.begin_collection().map_err(Error::from) {
            Err(error) if error.kind == ErrorKind::State => {}
            begun => {
                let begun = begun?;
                // Only who removes something has to hear of a container that nobody can judge.
                if let Ok(uses) = uses(host) {
                    carry_out(host, begun, &uses, |_, _| Ok(()))?;
                }
            }
        }
    }
    Ok(store)
}

/// What the containers of this host need in this moment: for who removes something.
///
/// # Errors
/// What the kernel says, or what is wrong with the record of one of them.
pub fn uses(host: &Host) -> Result<Uses, Error> {
    let records: Result<Vec<_>, _> = state::living(&host.data)?.into_iter().collect();
    let records =
        records.map_err(|fault| Error::from(fault).context("what a running container needs is unknown"))?;
    Ok(uses_of(host, records))
}

/// The same for a look: a container whose record cannot be read is not seen.
///
/// # Errors
/// What the kernel says.
pub fn seen_uses(host: &Host) -> Result<Uses, Error> {
    Ok(uses_of(host, state::living(&host.data)?.into_iter().flatten().collect()))
}

fn uses_of(host: &Host, records: Vec<Record>) -> Uses {
    let mut uses = Uses::default();
    for record in records {
        uses.containers.push(ContainerUse {
            folder: host.data.join("containers").join(record.id.as_str()),
            id: record.id.clone(),
            image: record.image,
            name: record.name,
            volumes: record.volumes.len(),
        });
        uses.folders.extend(record.layers);
        let volumes = host.data.join("volumes");
        uses.volumes.extend(record.volumes.iter().map(|volume| volumes.join(volume.as_str())));
        if let Some(image) = record.image_id {
            uses.images.push(ImageUse { container: record.id, image, is_running: true });
        }
    }
    uses
}

/// Carries a collection out: what `change` takes from the index, and everything else that nothing needs,
/// goes from the disk. Gives the bytes that went with what `change` gave.
///
/// # Errors
/// What `change` says, or that it cannot be known what a container needs; then nothing has changed.
pub fn collect<T>(
    host: &Host,
    collection: Collection<'_>,
    change: impl FnOnce(&mut Index, &Uses) -> Result<T, Error>,
) -> Result<(T, u64), Error> {
    // The collection has begun, so nobody starts a container from an image before this is over.
    let uses = uses(host)?;
    carry_out(host, collection, &uses, change)
}

fn carry_out<T>(
    host: &Host,
    collection: Collection<'_>,
    uses: &Uses,
    change: impl FnOnce(&mut Index, &Uses) -> Result<T, Error>,
) -> Result<(T, u64), Error> {
    let (changed, garbage) = collection.carry_out(&uses.folders, |index| change(index, uses))?;
    remove(host, &garbage)?;
    Ok((changed, garbage.bytes))
}

/// Layers may hold files that only the container's own ids can remove.
fn remove(host: &Host, garbage: &Garbage) -> Result<(), Error> {
    let denied = match garbage.remove().map_err(Error::from) {
        Err(error) if error.kind == ErrorKind::Denied => error,
        other => return other,
    };
    match host.subordinate_map() {
        Some(map) => idspace::inside(&map, || Ok(garbage.remove()?)),
        None => Err(denied),
    }
}
