//! Pure: Docker's rules for taking names and images away. It changes the index and says what goes; the
//! files go afterwards, in `image::garbage`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{ErrorKind, Fault};
use crate::image::index::{ImageRecord, Index};
use crate::names::{ContainerId, Digest, ImageReference};

/// Digits of an id in a message, as in Docker.
const SHORT_ID_DIGITS: usize = 12;

/// A container and the image it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The container.
    pub container: ContainerId,
    /// Its image.
    pub image: Digest,
    /// Whether it runs.
    pub is_running: bool,
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Its only name would go, and a container uses it.
    #[error(
        "conflict: unable to remove repository reference \"{name}\" (must force) - container {container} is using its referenced image {image}"
    )]
    LastName {
        /// The name.
        name: String,
        /// The container.
        container: String,
        /// The image.
        image: String,
    },
    /// A container uses it.
    #[error(
        "conflict: unable to delete {image} ({}) - image is being used by {} container {container}",
        if *.is_running { "cannot be forced" } else { "must be forced" },
        if *.is_running { "running" } else { "stopped" }
    )]
    Used {
        /// The image.
        image: String,
        /// The container.
        container: String,
        /// Whether it runs.
        is_running: bool,
    },
    /// It has names in several repositories.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is referenced in multiple repositories"
    )]
    Names {
        /// The image.
        image: String,
    },
}

impl Fault for Conflict {
    fn kind(&self) -> ErrorKind {
        ErrorKind::State
    }

    fn hints(&self) -> Vec<String> {
        vec![match self {
            Self::LastName { container, .. } | Self::Used { container, is_running: true, .. } => {
                format!("end container {container} first")
            }
            Self::Used { .. } => "`cuddy rmi -f` removes it all the same".to_owned(),
            Self::Names { .. } => {
                "`cuddy rmi NAME` takes one name away, `cuddy rmi -f` all of them".to_owned()
            }
        }]
    }
}

/// One thing that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// A name.
    Untagged(ImageReference),
    /// An image, by its id.
    Deleted(Digest),
    /// A stack of layers, by its chain id.
    Layers(Digest),
}

/// How an image was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'n> {
    /// By one of its names, which goes first.
    Name(&'n ImageReference),
    /// By its id.
    Id,
}

/// Takes away what was named, by Docker's rules: a name alone while there are others; an image with all
/// its names where that is clear or forced; nothing that a running container was made of.
///
/// # Errors
/// [`Conflict`]; the index is then as it was.
pub fn remove(
    index: &mut Index,
    id: &Digest,
    by: By<'_>,
    is_forced: bool,
    uses: &[ImageUse],
) -> Result<Vec<Gone>, Conflict> {
    let names = index.names_of(id);
    let of = |is_running| uses.iter().find(|one| one.image == *id && one.is_running == is_running);
    let (running, user) = (of(true), of(true).or(of(false)));
    let (mut gone, mut goes) = (Vec::new(), Vec::new());
    match by {
        By::Name(name) => {
            if let Some(user) = user.filter(|_| !is_forced && is_single(&names)) {
                return Err(Conflict::LastName {
                    name: name.familiar(),
                    container: user.container.short().to_owned(),
                    image: short(id),
                });
            }
            goes.push(name.clone());
            let same = |other: &ImageReference| {
                other.domain() == name.domain() && other.repository() == name.repository()
            };
            let has_tag = names.iter().any(|other| other != name && other.digest().is_none() && same(other));
            if name.digest().is_none() && !has_tag {
                // Digests of a repository that has no tag left are in nobody's sight.
                goes.extend(names.iter().filter(|other| other.digest().is_some() && same(other)).cloned());
            }
            let stays = names.iter().any(|other| !goes.contains(other));
            if stays || running.is_some() {
                untag(index, id, goes, &mut gone);
                return Ok(gone);
            }
        }
        By::Id => {
            if let Some(user) = running.or(user.filter(|_| !is_forced)) {
                return Err(Conflict::Used {
                    image: short(id),
                    container: user.container.short().to_owned(),
                    is_running: user.is_running,
                });
            }
            if !is_forced && !is_single(&names) {
                return Err(Conflict::Names { image: short(id) });
            }
            goes = names;
        }
    }
    untag(index, id, goes, &mut gone);
    let mut stacks = Stacks::of(index);
    delete(index, id, &mut stacks, &mut gone);
    Ok(gone)
}

/// Images that nobody needs, by Docker's rules for `prune`: without a tag, or with `all` also those with
/// one; never one that a container was made of, nor one that `keeps` says.
pub fn prune(
    index: &mut Index,
    all: bool,
    uses: &[ImageUse],
    keeps: impl Fn(&Digest, &ImageRecord) -> bool,
) -> Vec<Gone> {
    let mut names: BTreeMap<Digest, Vec<ImageReference>> = BTreeMap::new();
    for (id, of_image) in index.names_by_image() {
        names.insert(id.clone(), of_image);
    }
    let is_tagged =
        |id: &Digest| names.get(id).is_some_and(|names| names.iter().any(|name| name.tag().is_some()));
    let goes = |(id, record): &(&Digest, &ImageRecord)| {
        (all || !is_tagged(id)) && !uses.iter().any(|one| one.image == **id) && !keeps(id, record)
    };
    let ids: Vec<Digest> = index.images.iter().filter(goes).map(|(id, _)| id.clone()).collect();
    let (mut gone, mut stacks) = (Vec::new(), Stacks::of(index));
    for id in &ids {
        untag(index, id, names.remove(id).unwrap_or_default(), &mut gone);
        delete(index, id, &mut stacks, &mut gone);
    }
    gone
}

/// How many images have each stack of layers, by its chain id.
struct Stacks(BTreeMap<Digest, usize>);

impl Stacks {
    fn of(index: &Index) -> Self {
        let mut counts = BTreeMap::new();
        for stack in index.images.values().flat_map(ImageRecord::chain_ids) {
            *counts.entry(stack).or_default() += 1;
        }
        Self(counts)
    }

    /// One image less has the stack; whether none has it now.
    fn is_last(&mut self, stack: &Digest) -> bool {
        let Some(count) = self.0.get_mut(stack) else { return true };
        *count -= 1;
        *count == 0
    }
}

fn untag(index: &mut Index, id: &Digest, names: Vec<ImageReference>, gone: &mut Vec<Gone>) {
    for name in names {
        index.take(&name, id);
        gone.push(Gone::Untagged(name));
    }
}

fn delete(index: &mut Index, id: &Digest, stacks: &mut Stacks, gone: &mut Vec<Gone>) {
    let Some(record) = index.images.remove(id) else { return };
    gone.push(Gone::Deleted(id.clone()));
    let chain = record.chain_ids().into_iter().rev();
    gone.extend(chain.filter(|stack| stacks.is_last(stack)).map(Gone::Layers));
}

/// Whether it is clear what goes when the image goes: it has one tag at most, and every digest it is
/// named by belongs to the same repository.
fn is_single(names: &[ImageReference]) -> bool {
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    let repository = |name: &ImageReference| (name.domain().to_owned(), name.repository().to_owned());
    let repositories: BTreeSet<_> = names.iter().map(repository).collect();
    tags <= 1 && repositories.len() <= 1
}

fn short(id: &Digest) -> String {
    id.hex()[..SHORT_ID_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::config::Platform;
    use crate::image::index::LayerRecord;

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes(&[byte; 32])
    }

    fn name(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    fn record(layers: &[u8], architecture: &str) -> ImageRecord {
        let layer = |byte: &u8| LayerRecord {
            diff_id: digest(*byte),
            blob: digest(*byte + 100),
            bytes: 1,
            media_type: String::new(),
        };
        let platform = Platform { os: "linux".to_owned(), architecture: architecture.to_owned() };
        let layers = layers.iter().map(layer).collect();
        ImageRecord { manifest: None, index: None, layers, created: None, platform, bytes: 1 }
    }

    /// Images 1 and 2 of layers 11, 12 and 11, 13, with these names.
    fn index(names: &[(&str, u8)]) -> Index {
        let mut index = Index::empty();
        index.images.insert(digest(1), record(&[11, 12], "amd64"));
        index.images.insert(digest(2), record(&[11, 13], "amd64"));
        for (text, byte) in names {
            index.give(&name(text), &digest(*byte));
        }
        index
    }

    fn used(image: u8, is_running: bool) -> ImageUse {
        ImageUse { container: ContainerId::from_bytes(&[0xcc; 32]), image: digest(image), is_running }
    }

    fn words(gone: &[Gone]) -> Vec<String> {
        let word = |gone: &Gone| match gone {
            Gone::Untagged(name) => format!("-{}", name.familiar()),
            Gone::Deleted(digest) | Gone::Layers(digest) => digest.hex()[..2].to_owned(),
        };
        gone.iter().map(word).collect()
    }

    #[test]
    fn a_name_of_several_goes_alone_and_the_last_one_takes_the_image_along() {
        let mut index = index(&[("a", 1), ("b", 1), ("c", 2)]);
        let (a, b) = (name("a"), name("b"));
        assert_eq!(words(&remove(&mut index, &digest(1), By::Name(&a), false, &[]).unwrap()), ["-a:latest"]);
        let gone = remove(&mut index, &digest(1), By::Name(&b), false, &[]).unwrap();
        // The layer below is also the other image's: only the stack of both goes.
        assert_eq!(words(&gone).len(), 3);
        assert_eq!(words(&gone)[..2], ["-b:latest", "01"]);
        let Gone::Layers(chain) = &gone[2] else { panic!("{gone:?}") };
        assert_eq!(*chain, record(&[11, 12], "").chain_ids()[1]);
        assert!(!index.images.contains_key(&digest(1)) && index.names_of(&digest(1)).is_empty());
    }

    #[test]
    fn by_id_an_image_with_names_in_two_repositories_goes_only_by_force() {
        let mut both = index(&[("a", 1), ("b", 1)]);
        let before = both.clone();
        let conflict = remove(&mut both, &digest(1), By::Id, false, &[]).unwrap_err();
        assert_eq!(
            conflict.to_string(),
            "conflict: unable to delete 010101010101 (must be forced) - image is referenced in multiple repositories"
        );
        assert_eq!(both, before);
        let gone = remove(&mut both, &digest(1), By::Id, true, &[]).unwrap();
        assert_eq!(words(&gone)[..3], ["-a:latest", "-b:latest", "01"]);
        let digests = format!("a@{}", digest(9));
        let mut one = index(&[("a", 1), (&digests, 1)]);
        assert!(remove(&mut one, &digest(1), By::Id, false, &[]).is_ok(), "a tag and its own digest");
    }

    #[test]
    fn the_digests_of_a_repository_go_with_its_last_tag() {
        let digests = format!("a@{}", digest(9));
        let mut index = index(&[("a:1", 1), ("a:2", 1), (&digests, 1)]);
        let gone = remove(&mut index, &digest(1), By::Name(&name("a:1")), false, &[]).unwrap();
        assert_eq!(words(&gone), ["-a:1"]);
        let gone = remove(&mut index, &digest(1), By::Name(&name("a:2")), false, &[]).unwrap();
        assert_eq!(words(&gone)[..3], ["-a:2".to_owned(), format!("-{digests}"), "01".to_owned()]);
    }

    #[test]
    fn what_a_container_uses_stays_and_the_message_is_docker_s() {
        let uses = [used(1, true)];
        let mut one = index(&[("a", 1)]);
        let before = one.clone();
        let conflict = remove(&mut one, &digest(1), By::Name(&name("a")), false, &uses).unwrap_err();
        assert_eq!(
            conflict.to_string(),
            "conflict: unable to remove repository reference \"a:latest\" (must force) - container cccccccccccc is using its referenced image 010101010101"
        );
        for force in [false, true] {
            let conflict = remove(&mut one, &digest(1), By::Id, force, &uses).unwrap_err();
            assert_eq!(
                conflict.to_string(),
                "conflict: unable to delete 010101010101 (cannot be forced) - image is being used by running container cccccccccccc"
            );
        }
        assert_eq!(one, before);
        let gone = remove(&mut one, &digest(1), By::Name(&name("a")), true, &uses).unwrap();
        assert_eq!(words(&gone), ["-a:latest"], "by force the name goes, the image never");
        assert!(one.images.contains_key(&digest(1)));
        let stopped = [used(1, false)];
        let conflict = remove(&mut one, &digest(1), By::Id, false, &stopped).unwrap_err();
        assert!(conflict.to_string().contains("(must be forced) - image is being used by stopped"));
        assert!(remove(&mut one, &digest(1), By::Id, true, &stopped).is_ok());
    }

    #[test]
    fn prune_takes_what_has_no_tag_and_with_all_what_no_container_uses() {
        let digests = format!("c@{}", digest(9));
        let names = [("a", 1), (digests.as_str(), 2)];
        let mut some = index(&names);
        let gone = prune(&mut some, false, &[], |_, _| false);
        assert_eq!(words(&gone)[..2], [format!("-{digests}"), "02".to_owned()]);
        assert!(some.images.contains_key(&digest(1)));
        let mut all = index(&names);
        let gone = prune(&mut all, true, &[used(1, false)], |_, _| false);
        assert!(all.images.contains_key(&digest(1)) && words(&gone).contains(&"02".to_owned()));
        assert!(prune(&mut all, true, &[], |id, _| *id == digest(1)).is_empty());
        assert_eq!(words(&prune(&mut all, true, &[], |_, _| false))[..2], ["-a:latest", "01"]);
        assert!(all.images.is_empty());
    }

    #[test]
    fn a_name_means_one_image_for_each_platform() {
        let mut index = index(&[("a", 1)]);
        index.images.insert(digest(3), record(&[14], "arm64"));
        index.give(&name("a"), &digest(3));
        let meant = |index: &Index| index.names().next().unwrap().1.to_vec();
        assert_eq!(meant(&index), [digest(1), digest(3)]);
        index.give(&name("a"), &digest(2));
        assert_eq!(
            meant(&index),
            [digest(3), digest(2)],
            "another one for the same platform takes its place"
        );
        let arm = Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() };
        assert_eq!(index.choose(&meant(&index), Some(&arm)), Some(digest(3)));
        index.point(&name("a"), vec![digest(1)]);
        assert_eq!(meant(&index), [digest(1)]);
    }
}
