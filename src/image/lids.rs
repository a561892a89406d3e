//! The lid of a stack of layers: folders whose mode, owner and time a layer hides without meaning it. It
//! does not unpack layers and does not know which image a stack belongs to.
//!
//! An archive may hold `usr/bin/x` and say nothing of `usr` and `usr/bin`. Unpacked alone, such a layer
//! has both folders all the same, and overlay shows a folder as the topmost layer has it. What the layers
//! below say of it must hold: so the stack gets one more layer on top that has nothing but these folders.
//! The layers themselves stay as they are, whatever stack they are in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::ErrorKind::FileTooLarge;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::image::stream::digest_of;
use crate::image::tree::{Attributes, OPAQUE, Owners, Tree};
use crate::names::Digest;
use crate::sys::fs::{FsError, open_dir, read_file, replace_file};

/// The file beside an unpacked layer that names the folders nobody described, each ended by a NUL.
const IMPLIED: &str = "implied";
/// Largest such file, and most bytes of names in a lid: more than a layer may write down.
const NAMES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most bytes of such files of all the layers of one stack.
const STACK_BYTES_MAX: usize = NAMES_BYTES_MAX;
/// Most looks for the folders on the way to all of those paths, in all layers of one stack: about a
/// microsecond each, and everybody else who changes the store waits.
const LOOKS_MAX: usize = 20_000_000;

/// Writes down which folders of the layer in `dir` nobody described.
///
/// # Errors
/// What the kernel says.
pub fn note(dir: &Path, implied: &[Vec<u8>]) -> Result<(), FsError> {
    // What the root is like, the container's own folder on top of the stack decides.
    let implied: Vec<_> = implied.iter().filter(|path| !path.is_empty()).collect();
    if implied.is_empty() {
        return Ok(());
    }
    let names: Vec<u8> = implied.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    replace_file(open_dir(dir)?.as_fd(), OsStr::new(IMPLIED), &names, Mode::RUSR | Mode::WUSR)
}

/// Where the lid of the stack is, or must be made; nothing when no layer needs one. `diff_ids` and `dirs`
/// are its layers, bottom first.
pub fn place(diff_ids: &[Digest], dirs: &[PathBuf]) -> Option<PathBuf> {
    let has_implied = dirs.iter().skip(1).any(|dir| dir.join(IMPLIED).exists());
    let names: Vec<_> = diff_ids.iter().map(Digest::as_str).collect();
    // It goes with the topmost layer, without which there is no such stack.
    let top = dirs.last().filter(|_| has_implied)?;
    Some(top.join("lids").join(digest_of(names.join(" ").as_bytes()).hex()))
}

/// The folder for overlay that goes on top of the stack, when there is anything in it.
pub fn folder(place: &Path) -> Option<PathBuf> {
    Some(place.join("fs")).filter(|fs| fs.exists())
}

/// Makes the lid of the layers `dirs`, bottom first, in the folder `aside`, which must be new.
///
/// # Errors
/// What the kernel says, or that so many folders of so many layers nobody described that it would take
/// minutes.
pub fn make(dirs: &[PathBuf], aside: &Path, owners: Owners) -> Result<(), FsError> {
    rustix::fs::mkdir(aside, Mode::RWXU).map_err(|e| FsError::new("make the folder", aside, e))?;
    // Of two equal layers only the topmost one shows.
    let is_topmost = |at: &usize| !dirs[at + 1..].contains(&dirs[*at]);
    let mut bytes_left = STACK_BYTES_MAX;
    let stack = (0..dirs.len()).filter(is_topmost).map(|at| Layer::open(&dirs[at], &mut bytes_left));
    let stack = stack.collect::<Result<Vec<_>, _>>()?;
    let paths: BTreeSet<&[u8]> =
        stack.iter().skip(1).flat_map(|layer| &layer.implied).map(Vec::as_slice).collect();
    let looks = paths.iter().map(|path| ends(path).count()).sum::<usize>().saturating_mul(stack.len());
    if looks > LOOKS_MAX {
        return Err(too_many(aside, format!("they take more than {LOOKS_MAX} looks")));
    }
    let mut folders: BTreeMap<&[u8], Attributes> = BTreeMap::new();
    for path in paths {
        if folders.contains_key(path) || !shown_in(&stack, path).is_some_and(|shown| shown.is_hidden) {
            continue;
        }
        // What the lid has on the way there must be as it was too.
        for end in ends(path) {
            if !folders.contains_key(&path[..end])
                && let Some(shown) = shown_in(&stack, &path[..end])
            {
                folders.insert(&path[..end], attributes(&shown.stat));
            }
        }
    }
    if folders.is_empty() {
        return Ok(());
    }
    let mut tree = Tree::make(&aside.join("fs"), owners, NAMES_BYTES_MAX)?;
    for (path, attributes) in folders {
        tree.dir(path, &attributes)?;
    }
    tree.finish().map(|_filled| ())
}

/// Where each folder on the way to `path` ends, it itself last.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()])
}

fn too_many(path: &Path, why: String) -> FsError {
    let text = format!("too many folders that no layer describes: {why}");
    FsError::new("describe the folders of an image in", path, std::io::Error::new(FileTooLarge, text))
}

/// One layer of the stack.
struct Layer {
    root: OwnedFd,
    implied: BTreeSet<Vec<u8>>,
}

/// What one layer has at a path.
enum Seen {
    /// Nothing.
    Absent,
    /// Something that hides whatever the layers below have there.
    Blocked,
    /// A folder.
    Folder(Stat),
}

/// A folder as the whole stack should show it.
struct Shown {
    stat: Stat,
    /// Overlay alone would show it as a layer that says nothing of it.
    is_hidden: bool,
}

impl Layer {
    /// Takes what it reads from `bytes_left`.
    fn open(dir: &Path, bytes_left: &mut usize) -> Result<Self, FsError> {
        let fs = dir.join("fs");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&fs, flags, Mode::empty()).map_err(|e| FsError::new("open", &fs, e))?;
        let path = dir.join(IMPLIED);
        let names = match read_file(&path, *bytes_left as u64) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) if e.source.kind() == FileTooLarge => {
                return Err(too_many(&path, format!("their names are more than {STACK_BYTES_MAX} bytes")));
            }
            other => other?,
        };
        *bytes_left -= names.len();
        let implied = names.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
        Ok(Self { root, implied: implied.collect() })
    }

    fn look(&self, path: &[u8]) -> Seen {
        match self.open_folder(path) {
            Ok(fd) => match rustix::fs::fstat(&fd) {
                Ok(stat) => return Seen::Folder(stat),
                Err(_unreadable) => return Seen::Blocked,
            },
            Err(Errno::NOENT) => {}
            Err(_other) => return Seen::Blocked,
        }
        // A folder on the way may hide what the layers below have in it.
        for end in ends(path) {
            match self.open_folder(&path[..end]) {
                Ok(fd) if is_opaque(&fd) => return Seen::Blocked,
                Ok(_) => {}
                Err(_absent) => break,
            }
        }
        Seen::Absent
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name = OsStr::from_bytes(path);
        match rustix::fs::openat2(&self.root, name, flags, Mode::empty(), beneath) {
            // A folder that is closed even to us is still a folder that somebody described.
            Err(Errno::ACCESS) => {
                let stat = rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                if !is_folder {
                    return Err(Errno::NOTDIR);
                }
                rustix::fs::openat2(&self.root, name, flags, Mode::empty(), beneath)
            }
            other => other,
        }
    }
}

/// The folder `path` as the stack should show it: as the topmost layer has it that describes it. Nothing
/// when the stack has no folder there.
fn shown_in(stack: &[Layer], path: &[u8]) -> Option<Shown> {
    let mut implied = None;
    for layer in stack.iter().rev() {
        match layer.look(path) {
            Seen::Absent => {}
            Seen::Blocked => break,
            // That it may hide what is in the folder below says nothing of the folder itself.
            Seen::Folder(stat) if layer.implied.contains(path) => {
                implied.get_or_insert(stat);
            }
            Seen::Folder(stat) => return Some(Shown { stat, is_hidden: implied.is_some() }),
        }
    }
    implied.map(|stat| Shown { stat, is_hidden: false })
}

fn is_opaque(fd: &OwnedFd) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::fgetxattr(fd, OPAQUE, &mut value[..]) == Ok(1) && value == *b"y"
}

fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer with these folders, of which it describes none.
    fn layer(at: &Path, implied: &[&str]) -> PathBuf {
        for path in implied {
            std::fs::create_dir_all(at.join("fs").join(path)).unwrap();
        }
        note(at, &implied.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>()).unwrap();
        at.to_owned()
    }

    #[test]
    fn a_layer_that_is_listed_often_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let described = dir.path().join("described");
        std::fs::create_dir_all(described.join("fs/usr/bin")).unwrap();
        // A tenth of what a stack may have: as often as it is listed it would be too much.
        let name = format!("usr/{}", "x".repeat(200));
        let many = layer(&dir.path().join("many"), &[&name, "usr"]);
        let length = (STACK_BYTES_MAX / 10).div_ceil(name.len() + 1);
        let paths = vec![name.clone().into_bytes(); length];
        note(&many, &paths).unwrap();
        let mut dirs = vec![described];
        dirs.extend(std::iter::repeat_n(many.clone(), 20));
        make(&dirs, &dir.path().join("lid"), Owners::Record).unwrap();
        let copies = (0..11).map(|n| {
            let copy = layer(&dir.path().join(n.to_string()), &[&name]);
            std::fs::copy(many.join(IMPLIED), copy.join(IMPLIED)).unwrap();
            copy
        });
        let error = make(&copies.collect::<Vec<_>>(), &dir.path().join("other"), Owners::Record).unwrap_err();
        assert!(error.source.to_string().contains("too many folders"), "{error}");
    }

    #[test]
    fn the_looks_of_a_stack_have_a_ceiling() {
        let dir = tempfile::tempdir().unwrap();
        let deep = layer(&dir.path().join("deep"), &["a"]);
        // So deep that a few thousand of them are too many, and none of them has to be there.
        let paths: Vec<_> =
            (0..LOOKS_MAX / 2000 + 1).map(|n| format!("{}{n}", "a/".repeat(999)).into_bytes()).collect();
        note(&deep, &paths).unwrap();
        let error =
            make(&[layer(&dir.path().join("low"), &["a"]), deep], &dir.path().join("lid"), Owners::Record)
                .unwrap_err();
        assert!(error.source.to_string().contains("looks"), "{error}");
    }
}
