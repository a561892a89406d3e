//! What real archivers write is unpacked as it was: names, links, holes, times, modes, attributes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cuddy::image::archive::import;
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;

use crate::{Place, skipped};

/// Commands that write an archive of the folder they stand in to standard output. What a format cannot
/// hold is left out by name: `ustar` has no long names.
pub(crate) const WRITERS: &[&str] = &[
    "tar --format=gnu -S -cf - .",
    "tar --format=oldgnu -S -cf - .",
    "tar --format=posix --xattrs -cf - .",
    "tar --format=posix -S --sparse-version=0.0 -cf - .",
    "tar --format=posix -S --sparse-version=0.1 --xattrs -cf - .",
    "tar --format=posix -S --sparse-version=1.0 --xattrs -cf - .",
    "tar --format=ustar --exclude=long* -cf - .",
    "bsdtar --format=pax --xattrs -cf - .",
    "bsdtar --format=gnutar -cf - .",
    "bsdtar --format=ustar --exclude=long* -cf - .",
];

/// A folder with one of everything.
pub(crate) struct Tree(PathBuf);

impl Tree {
    pub(crate) fn make(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("folder/inner")).unwrap();
        fs::write(dir.join("folder/inner/file"), "text").unwrap();
        fs::write(dir.join("empty"), "").unwrap();
        fs::write(dir.join("large"), vec![b'x'; 3000]).unwrap();
        fs::hard_link(dir.join("large"), dir.join("folder/second name")).unwrap();
        symlink("folder/inner/file", dir.join("link")).unwrap();
        fs::write(dir.join("new\nline and \\ and ü"), "odd").unwrap();
        fs::write(dir.join("setuid"), "").unwrap();
        fs::set_permissions(dir.join("setuid"), fs::Permissions::from_mode(0o4711)).unwrap();
        let long = dir.join(format!("long-{}", "d".repeat(120))).join("e".repeat(200));
        fs::create_dir_all(&long).unwrap();
        fs::write(long.join("f".repeat(250)), "long").unwrap();
        symlink("t".repeat(300), dir.join("long-link")).unwrap();
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o620),
            0,
        );
        fifo.unwrap();
        // More pieces than one header has room for.
        let holes = fs::File::create(dir.join("holes")).unwrap();
        for piece in 0..30_u64 {
            holes.write_all_at(&[b'p'; 4096], piece * 65_536).unwrap();
        }
        holes.set_len(30 * 65_536).unwrap();
        for (name, value) in [("user.kept", &b"a\nb=c\0d"[..]), ("user.overlay.opaque", b"y")] {
            rustix::fs::setxattr(dir.join("large"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        for (number, path) in ["folder/inner/file", "large", "folder/inner", "folder"].iter().enumerate() {
            let time = rustix::fs::Timespec { tv_sec: 1_600_000_000 + number as i64, tv_nsec: 123_456_789 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(
                rustix::fs::CWD,
                dir.join(path),
                &times,
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .unwrap();
        }
        fs::set_permissions(dir.join("folder"), fs::Permissions::from_mode(0o2755)).unwrap();
        fs::set_permissions(dir.join("folder/inner"), fs::Permissions::from_mode(0o555)).unwrap();
        Self(dir.to_owned())
    }

    pub(crate) fn pack(&self, writer: &str) -> Vec<u8> {
        let words: Vec<_> = writer.split(' ').collect();
        let ran = Command::new(words[0]).args(&words[1..]).current_dir(&self.0).output().unwrap();
        assert!(ran.status.success(), "{writer}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }
}

/// Everything below a folder by its path, as text that two folders can be compared by.
fn seen(root: &Path, has_nanoseconds: bool, has_xattrs: bool) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                left.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_fifo() {
                "pipe".to_owned()
            } else {
                format!(
                    "{} names, {} bytes, {}",
                    meta.nlink(),
                    meta.len(),
                    digest_of(&fs::read(&path).unwrap())
                )
            };
            let nanoseconds = if has_nanoseconds { meta.mtime_nsec() } else { 0 };
            let mut text = format!("{what}, {:o}, at {}.{nanoseconds}", meta.mode(), meta.mtime());
            let mut value = [0_u8; 64];
            if has_xattrs && let Ok(length) = rustix::fs::lgetxattr(&path, "user.kept", &mut value[..]) {
                text += &format!(", {}", value[..length].escape_ascii());
            }
            found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), text);
        }
    }
    found
}

#[test]
fn what_gnu_tar_and_bsdtar_write_is_unpacked_as_it_was() {
    if !["tar", "bsdtar"].iter().all(|program| Command::new(program).arg("--version").output().is_ok()) {
        return skipped("bsdtar", "there is no GNU tar or no bsdtar");
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::make(&dir.path().join("tree"));
    for writer in WRITERS {
        let place = Place::new();
        let archive = tree.pack(writer);
        let report =
            import(&place.store, place.file(&archive), &"a".parse().unwrap(), Owners::Record).unwrap();
        let is_pax = writer.contains("posix") || writer.contains("pax");
        let has_xattrs = writer.contains("--xattrs");
        let mut expected = seen(&tree.0, is_pax, has_xattrs);
        if writer.contains("exclude") {
            expected.retain(|path, _| !path.starts_with(b"long"));
        }
        let root = &place.image("a").layers[0];
        let found = seen(root, is_pax, has_xattrs);
        for (path, text) in &expected {
            assert_eq!(found.get(path), Some(text), "{writer}: {}", path.escape_ascii());
        }
        assert_eq!(found.len(), expected.len(), "{writer}");
        // 30 pieces of 4096 bytes, in blocks of 512, and what the file system needs to know where.
        let blocks = fs::metadata(root.join("holes")).unwrap().blocks();
        if writer.contains("-S") {
            assert!(blocks <= 30 * 8 + 16, "{writer}: the holes take {blocks} blocks");
        }
        let mut value = [0_u8; 8];
        assert!(
            rustix::fs::getxattr(root.join("large"), "user.overlay.opaque", &mut value[..]).is_err(),
            "{writer}"
        );
        assert_eq!(report.skipped.xattrs > 0, has_xattrs, "{writer}");
    }
}
