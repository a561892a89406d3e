//! Many processes load the same image at once and some of them are killed: what is left is one whole image.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cuddy::image::archive::load;
use cuddy::image::store::Store;
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;

use crate::images::mutations::Chance;
use crate::{Place, Tar, docker_archive, gzip};

/// Processes that load at once.
const CROWD: usize = 8;
const LAYERS: u8 = 6;

/// Begins a load in a process of its own: an archive, and where its report goes when one is wanted.
pub(crate) fn begin(store: &Path, files: &[&Path]) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load_what_standard_input_names", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line: Vec<_> = [store].iter().chain(files).map(|path| path.display().to_string()).collect();
    writeln!(child.stdin.take().unwrap(), "{}", line.join("\t")).unwrap();
    child
}

#[test]
fn eight_processes_at_once_and_kills_among_them_leave_one_whole_image_and_no_stray_file() {
    let layers: Vec<_> = (0..LAYERS)
        .map(|i| (0..60).fold(Tar::default(), |tar, n| tar.file(format!("d{i}/f{n}"), [i; 5000])).end())
        .collect();
    let archive = docker_archive(&layers, gzip, "a");
    let mut chance = Chance(0x00c0_ffee);
    let (mut killed, mut midway) = (0, 0);
    for round in 0..12 {
        let place = Place::new();
        let (path, store) = (place.dir.path().join("outside/a.tar"), place.dir.path().join("store"));
        fs::write(&path, &archive).unwrap();
        let mut crowd: Vec<_> = (0..CROWD).map(|_| begin(&store, &[&path])).collect();
        // In the first round all may end; in the last none does.
        let victims = if round == 11 { CROWD } else { round.min(CROWD - 1) };
        for child in crowd.iter_mut().take(victims) {
            std::thread::sleep(Duration::from_millis(chance.next(12) as u64));
            child.kill().unwrap();
        }
        for (number, child) in crowd.iter_mut().enumerate() {
            let status = child.wait().unwrap();
            assert!(status.success() || number < victims, "round {round}: {status}");
            killed += usize::from(!status.success());
        }
        midway += usize::from(fs::read_dir(store.join("tmp")).unwrap().count() > 0);
        let again = Store::open(&store).unwrap();
        if victims == CROWD {
            load(&again, File::open(&path).unwrap(), Owners::Record).unwrap();
        }
        let image = place.image("a");
        assert_eq!(again.images().unwrap().len(), 1);
        for (i, (folder, layer)) in image.layers.iter().zip(&layers).enumerate() {
            assert_eq!(fs::read_dir(folder.join(format!("d{i}"))).unwrap().count(), 60);
            let blob = gzip(layer);
            assert_eq!(fs::read(again.blob(&digest_of(&blob))).unwrap(), blob);
        }
        let count = |part: &str| fs::read_dir(store.join(part)).unwrap().count();
        let layers = usize::from(LAYERS);
        assert_eq!((count("tmp"), count("locks")), (0, 0), "round {round}");
        assert_eq!((count("layers"), count("blobs/sha256")), (layers, layers + 1), "round {round}");
    }
    assert!(
        killed > 20 && midway > 0,
        "{killed} were killed, {midway} rounds left something: too early or too late"
    );
}
